"""Which temperature is best for each student, when all of them are tried?

    python -m experiments.grid --work FOLDER [--part 0/2]

This trains every combination of the grid at ten temperatures, and without a teacher, with five seeds. It writes one
line for each student to FOLDER/runs.jsonl, and continues where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from experiments.combinations import GRID, SEEDS, TEMPERATURES, Studies


def main() -> None:
    """Train the students of this process's part, and print the validation and test accuracy of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where runs, teachers and stores are kept")
    parser.add_argument("--part", default="0/1", help="i/n: this process does every n-th run, from the i-th")
    parser.add_argument(
        "--share", type=float, default=1.0, help="the fraction of the steps that students are trained for"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="the number of seeds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    part, parts = map(int, arguments.part.split("/"))
    studies = Studies(arguments.work)
    runs = [
        (name, seed, objective)
        for name in GRID
        for seed in range(arguments.seeds)
        for objective in ({"alpha": 0.0}, *({"temperature": t} for t in TEMPERATURES))
    ]
    for name, seed, objective in runs[part::parts]:
        found = studies.run(name, seed=seed, share=arguments.share, **objective)
        print(name, objective, seed, f"{100 * found['validation']:.2f} {100 * found['test']:.2f}", flush=True)


if __name__ == "__main__":
    main()
