"""Can T be told without training a student? From what ``analyze`` sees of the teacher, the student's size and the optimiser.

python -m experiments.rule --work FOLDER [--out experiments/results/rule.json]

Candidate rules are linear in log T, fitted by least squares to the best T of each combination, and judged by leaving one
combination out: how many doublings the guess is off, and how many points of test accuracy it costs.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from experiments.collect import Arms
from experiments.combinations import COMBINATIONS, GRID, SEEDS, TEMPERATURES, WIDTHS, Studies, of_width

from limbeck.models import ModelConfig, build_model, count_parameters
from limbeck.temperature import Observation, fit
from limbeck.temperature.analysis import analyze

NAMES = tuple(dict.fromkeys((*GRID, *map(of_width, WIDTHS))))
CLASSES = 1.5
FINE = tuple(float(t) for t in np.geomspace(0.3, 40, 200))


def features(studies: Studies, name: str) -> dict[str, float]:
    """What is known before a student is trained."""
    combination = COMBINATIONS[name]
    _, splits, teacher = studies.setting(name)
    rows = splits.train.ids[:5000]
    logits = teacher.store.look_up(rows).logits
    assert logits is not None
    told = analyze(logits.float(), temperatures=FINE).softness
    softened = next((row.temperature for row in told if row.effective_classes >= CLASSES), FINE[-1])
    torch.manual_seed(0)
    student = build_model(
        ModelConfig(combination.student["model"], dict(combination.student["settings"])), splits.shape
    )
    return {
        "log T of 1.5 classes": math.log(softened),
        "log parameters": math.log(count_parameters(student)),
        "SGD": float(combination.optim == "sgd"),
        "log examples": math.log(len(splits.train)),
        "log passes": math.log(combination.steps * combination.batch / len(splits.train)),
    }


def best_of(arms: Arms, name: str) -> tuple[float, dict[float, float]]:
    """The top of a smooth curve through all seeds, and the mean at each T of the grid."""
    table = {t: arms(name, temperature=t) for t in TEMPERATURES}
    seen = [Observation(t, seed, table[t][seed]) for t in TEMPERATURES for seed in range(SEEDS)]
    inside = [t for t in FINE if TEMPERATURES[0] <= t <= TEMPERATURES[-1]]
    return fit(seen, inside).best, {t: float(values.mean()) for t, values in table.items()}


def nearest(t: float) -> float:
    """The temperature of the grid that is nearest, in log T."""
    return min(TEMPERATURES, key=lambda s: abs(math.log(s) - math.log(t)))


def left_out(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Each guess by a rule that was fitted to all others."""
    guesses = np.empty_like(y)
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        weights, *_ = np.linalg.lstsq(x[others], y[others], rcond=None)
        guesses[i] = x[i] @ weights
    return guesses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    studies, arms = Studies(arguments.work), Arms()
    seen = {name: features(studies, name) for name in NAMES}
    truth = {name: best_of(arms, name) for name in NAMES}
    y = np.array([math.log(truth[name][0]) for name in NAMES])
    keys = list(next(iter(seen.values())))

    def judged(guesses: np.ndarray) -> dict[str, float]:
        lost = [
            max(truth[n][1].values()) - truth[n][1][nearest(math.exp(g))] for n, g in zip(NAMES, guesses, strict=True)
        ]
        return {
            "doublings": float(np.sqrt(np.mean(((guesses - y) / math.log(2)) ** 2))), "mean_regret": float(np.mean(lost)),
            "largest_regret": float(np.max(lost)),
        }  # fmt: skip

    rules = [
        {"rule": f"T = {t:g}", "features": [], **judged(np.full(len(y), math.log(t)))} for t in (1.0, 1.5, 2.0, 4.0)
    ]
    for count in range(4):
        for chosen in combinations(keys, count):
            x = np.array([[1.0, *(seen[name][key] for key in chosen)] for name in NAMES])
            weights, *_ = np.linalg.lstsq(x, y, rcond=None)
            rules.append(
                {"rule": " + ".join(chosen) or "one constant, fitted", "features": list(chosen), "weights": weights.tolist(),
                 **judged(left_out(x, y))}
            )  # fmt: skip
    rules.sort(key=lambda rule: rule["mean_regret"])
    for rule in rules[:12]:
        print(f"{rule['mean_regret']:.2f} points, at most {rule['largest_regret']:.2f}, {rule['doublings']:.2f} doublings off: "
              f"{rule['rule']} {np.round(rule.get('weights', []), 2)}")  # fmt: skip
    for name in NAMES:
        print(f"{name:32} best {truth[name][0]:.2f} { ({k: round(v, 2) for k, v in seen[name].items()}) }")
    if arguments.out is not None:
        told = {name: {"best": truth[name][0], **seen[name]} for name in NAMES}
        arguments.out.write_text(
            json.dumps({"command": "python -m experiments.rule", "rules": rules, "seen": told}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
