"""The full grid: every combination at ten temperatures, and without a teacher, with five seeds.

python -m experiments.grid --work FOLDER [--part 0/2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from experiments.combinations import GRID, SEEDS, TEMPERATURES, Studies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where runs, teachers and stores are kept")
    parser.add_argument("--part", default="0/1", help="i/n: this process does every n-th run")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps")
    parser.add_argument("--seeds", type=int, default=SEEDS)
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
