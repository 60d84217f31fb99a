"""Can T be guessed without training a student?

    python -m experiments.rule --work FOLDER [--out experiments/results/rule.json]

The guess may use what ``analyze`` measures on the teacher, the student's size, the optimiser and the number of
examples. Candidate rules are linear functions that give log T, fitted by least squares to the best T of each
combination. Each is judged by leaving one combination out: by how many doublings the guess is off, and how many points
of test accuracy it costs. The best rules are printed; with --out all of them are written as JSON. The accuracies are
those in experiments/results/arms.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.collect import Arms
from experiments.combinations import COMBINATIONS, GRID, SEEDS, TEMPERATURES, WIDTHS, Studies, of_width

from limbeck.models import ModelConfig, build_model, count_parameters
from limbeck.temperature import Observation, fit_curve
from limbeck.temperature.analysis import analyze

NAMES = tuple(dict.fromkeys((*GRID, *map(of_width, WIDTHS))))
CLASSES = 1.5
"""A feature of the rules is the T at which the soft targets have this many effective classes."""
FINE = tuple(float(t) for t in np.geomspace(0.3, 40, 200))
"""The temperatures at which curves are read, finer than the grid."""
Truth = Mapping[str, tuple[float, Mapping[float, float]]]
"""For each combination, the best T and the mean test accuracy at each T of the grid."""


def features(studies: Studies, name: str) -> dict[str, float]:
    """Return the features of a combination, all known before a student is trained."""
    combination = COMBINATIONS[name]
    _, splits, teacher = studies.setting(name)
    rows = splits.train.ids[:5000]
    logits = teacher.store.look_up(rows).logits
    assert logits is not None
    rows_by_temperature = analyze(logits.float(), temperatures=FINE).softness
    softened = next((row.temperature for row in rows_by_temperature if row.effective_classes >= CLASSES), FINE[-1])
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
    """Return the top of a smooth curve through all seeds, and the mean accuracy at each T of the grid."""
    table = {t: arms(name, temperature=t) for t in TEMPERATURES}
    observations = [Observation(t, seed, table[t][seed]) for t in TEMPERATURES for seed in range(SEEDS)]
    inside = [t for t in FINE if TEMPERATURES[0] <= t <= TEMPERATURES[-1]]
    return fit_curve(observations, inside).best, {t: float(values.mean()) for t, values in table.items()}


def nearest(t: float) -> float:
    """Return the temperature of the grid that is nearest, in log T."""
    return min(TEMPERATURES, key=lambda s: abs(math.log(s) - math.log(t)))


def leave_one_out(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the guess for each combination by a rule that was fitted to all the others.

    Args:
        x: (combinations, features).
        y: (combinations,), the log of the best T.
    """
    guesses = np.empty_like(y)
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        weights, *_ = np.linalg.lstsq(x[others], y[others], rcond=None)
        guesses[i] = x[i] @ weights
    return guesses


def judge(truth: Truth, guesses: np.ndarray) -> dict[str, float]:
    """Return how far guesses of log T, one for each of ``NAMES``, are from the best T, and what they cost in accuracy."""
    best = np.array([math.log(truth[name][0]) for name in NAMES])
    points_lost = []
    for name, guess in zip(NAMES, guesses, strict=True):
        accuracies = truth[name][1]
        points_lost.append(max(accuracies.values()) - accuracies[nearest(math.exp(guess))])
    return {
        "doublings": float(np.sqrt(np.mean(((guesses - best) / math.log(2)) ** 2))),
        "mean_regret": float(np.mean(points_lost)), "largest_regret": float(np.max(points_lost)),
    }  # fmt: skip


def candidate_rules(known: Mapping[str, Mapping[str, float]], truth: Truth) -> list[dict[str, Any]]:
    """Return the rules, the best one first: constants, and linear functions of up to three features.

    Args:
        known: the features of each combination.
        truth: what is known of each combination after its students are trained.
    """
    y = np.array([math.log(truth[name][0]) for name in NAMES])
    keys: Sequence[str] = list(next(iter(known.values())))
    rules: list[dict[str, Any]] = [
        {"rule": f"T = {t:g}", "features": [], **judge(truth, np.full(len(y), math.log(t)))}
        for t in (1.0, 1.5, 2.0, 4.0)
    ]
    for count in range(4):
        for chosen in combinations(keys, count):
            x = np.array([[1.0, *(known[name][key] for key in chosen)] for name in NAMES])
            weights, *_ = np.linalg.lstsq(x, y, rcond=None)
            rules.append(
                {"rule": " + ".join(chosen) or "one constant, fitted", "features": list(chosen), "weights": weights.tolist(),
                 **judge(truth, leave_one_out(x, y))}
            )  # fmt: skip
    return sorted(rules, key=lambda rule: rule["mean_regret"])


def main() -> None:
    """Print the best rules and what is known of each combination, and write all rules."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where runs, teachers and stores are kept")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    studies, arms = Studies(arguments.work), Arms()
    known = {name: features(studies, name) for name in NAMES}
    truth = {name: best_of(arms, name) for name in NAMES}
    rules = candidate_rules(known, truth)
    for rule in rules[:12]:
        print(f"{rule['mean_regret']:.2f} points, at most {rule['largest_regret']:.2f}, {rule['doublings']:.2f} doublings off: "
              f"{rule['rule']} {np.round(rule.get('weights', []), 2)}")  # fmt: skip
    for name in NAMES:
        print(f"{name:32} best {truth[name][0]:.2f} { ({k: round(v, 2) for k, v in known[name].items()}) }")
    if arguments.out is not None:
        seen = {name: {"best": truth[name][0], **known[name]} for name in NAMES}
        arguments.out.write_text(
            json.dumps({"command": "python -m experiments.rule", "rules": rules, "seen": seen}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
