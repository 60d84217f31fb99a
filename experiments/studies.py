"""What else decides which temperature is good? The runs of all studies except the grid.

    python -m experiments.studies --work FOLDER [--only sizes,alphas] [--part 0/2]

    sizes       Does a smaller student want another temperature?
    alphas      How do alpha and T depend on each other, with and without T²?
    objectives  Are soft targets alone, soft and hard labels, or logit MSE best, and does T² KL come near the latter at large T?
    omitted     Does a student recognise a class that it never saw?
    policies    Are temperatures that change better than constant ones?

This writes one line for each student to FOLDER/runs.jsonl, and continues where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from experiments.combinations import SEEDS, TEMPERATURES, WIDTHS, Studies, of_width

SMALL = "digits 100, MLP 64, AdamW"
SMALL_SGD = "digits 100, MLP 64, SGD"
LARGE = "fashion 2,000, MLP 128, AdamW"
LARGE_SGD = "fashion 2,000, MLP 128, SGD"
OMITTING = "digits, MLP 16, AdamW"

FEW_TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)
"""The temperatures of the studies that do not need all ten."""
POLICY_ARMS: dict[str, dict[str, Any]] = {
    "linear 8 to 1": {"policy": "linear", "start": 8.0, "end": 1.0},
    "linear 1 to 8": {"policy": "linear", "start": 1.0, "end": 8.0},
    "cosine 8 to 1": {"policy": "cosine", "start": 8.0, "end": 1.0},
    "exponential 8 to 1": {"policy": "exponential", "start": 8.0, "end": 1.0},
    "max_logit, ratio 3": {"policy": "max_logit", "ratio": 3.0},
    "sharpness, T = 4": {"policy": "sharpness", "temperature": 4.0},
    "standardized, T = 2": {"policy": "standardized", "temperature": 2.0},
    "teacher_only, T = 4": {"policy": "teacher_only", "temperature": 4.0},
    "weighted_teacher_only, T = 4": {"policy": "weighted_teacher_only", "temperature": 4.0},
    "gap, from 8": {"policy": "gap", "start": 8.0},
    "learned, from 4": {"policy": "learned", "start": 4.0},
}

Run = tuple[str, dict[str, Any]]
"""A combination and the settings of its objective."""


def sizes() -> list[Run]:
    """Return the runs of students of several sizes at every temperature, and without a teacher."""
    return [(of_width(w), arm) for w in WIDTHS for arm in ({"alpha": 0.0}, *({"temperature": t} for t in TEMPERATURES))]


def alphas() -> list[Run]:
    """Return the runs of several values of alpha at several temperatures, with and without T²."""
    return [
        (name, {"temperature": t, "alpha": alpha, "compensate": compensate})
        for name in (SMALL, SMALL_SGD)
        for alpha in (0.1, 0.5, 0.9, 1.0)
        for t in FEW_TEMPERATURES
        for compensate in (True, False)
    ]


def objectives() -> list[Run]:
    """Return the runs with logit MSE, and with KL at temperatures up to 100, with and without hard labels."""
    runs: list[Run] = []
    for name in (SMALL, LARGE, LARGE_SGD):
        for alpha in (0.9, 1.0):
            runs.append((name, {"divergence": "logit_mse", "alpha": alpha}))
            runs += [(name, {"temperature": t, "alpha": alpha}) for t in (*FEW_TEMPERATURES, 100.0)]
    return runs


def omitted() -> list[Run]:
    """Return the runs of students that never see one of the ten digits."""
    arms = ({"alpha": 0.0}, *({"temperature": t, "alpha": 1.0} for t in FEW_TEMPERATURES))
    return [(OMITTING, {**arm, "omitted": digit}) for digit in range(10) for arm in arms]


def policies() -> list[Run]:
    """Return the runs with temperatures that change."""
    return [(name, {"temperature": policy}) for name in (SMALL, LARGE, LARGE_SGD) for policy in POLICY_ARMS.values()]


STUDIES = {study.__name__: study for study in (alphas, policies, omitted, objectives, sizes)}


def main() -> None:
    """Train the students of this process's part, and print the measures of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where runs, teachers and stores are kept")
    parser.add_argument("--only", default=",".join(STUDIES), help="the names of studies, with commas between them")
    parser.add_argument("--part", default="0/1", help="i/n: this process does every n-th run, from the i-th")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="the number of seeds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    part, parts = map(int, arguments.part.split("/"))
    runs = [run for name in arguments.only.split(",") for run in STUDIES[name]()]
    studies = Studies(arguments.work)
    for name, objective in runs[part::parts]:
        for seed in range(arguments.seeds):
            found = studies.run(name, seed=seed, **objective)
            print(name, objective, seed, {key: round(value, 4) for key, value in found.items()}, flush=True)


if __name__ == "__main__":
    main()
