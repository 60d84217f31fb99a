"""What the search chooses under a bad teacher.

    python -m experiments.bad_teachers --work FOLDER

Six students of the replay get a teacher that is spoiled. A "systematic" one names the next class instead of a third of the
classes, always. An "erratic" one errs in 40 % of its answers. The points that each choice loses are printed: the best
temperature of the grid minus the chosen one, in test accuracy, as the mean over three pairs of seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from experiments.many_students import Data
from experiments.replay import CASES, choices, data_of, kept_students
from torch import Tensor


def systematic(logits: Tensor) -> Tensor:
    """Return logits that name the next class for a third of the classes."""
    return torch.where((logits.argmax(-1) % 3 == 0)[:, None], logits.roll(1, -1), logits)


def erratic(logits: Tensor) -> Tensor:
    """Return logits of which 40 % are moved to other classes."""
    generator = torch.Generator().manual_seed(1)
    is_moved = torch.rand(len(logits), generator=generator) < 0.4
    step = int(torch.randint(1, logits.shape[-1], (1,), generator=generator))
    return torch.where(is_moved[:, None], logits.roll(step, -1), logits)


SPOILED: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("digits 100, MLP 64, AdamW", systematic),
    ("digits 300, MLP 32, SGD", systematic),
    ("segments 150, MLP 16, AdamW", systematic),
    ("digits 100, MLP 64, AdamW", erratic),
    ("segments 150, MLP 64, SGD", erratic),
    ("banana 100, MLP 16, AdamW", erratic),
]


def _spoiled(name: str, spoil: Callable[[Tensor], Tensor], work: Path) -> Data:
    """Return the examples of a case with a teacher that is spoiled."""
    data = data_of(CASES[name], work)
    return replace(data, teacher=spoil(data.teacher), validation_teacher=spoil(data.validation_teacher))


def main() -> None:
    """Train the students that are missing, and print what the search chose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where students, teachers and packages are kept")
    work = parser.parse_args().work
    torch.set_num_threads(1)
    for name, spoil in SPOILED:
        path = work / "bad_teachers" / f"{spoil.__name__}_{name.replace(' ', '_').replace(',', '')}.pt"
        rows = list(choices(kept_students(path, CASES[name].recipe, partial(_spoiled, name, spoil, work))))
        lost = np.mean([row["at_best"] - row["at_chosen"] for row in rows])
        verdicts = ", ".join(sorted({row["verdict"] for row in rows}))
        print(f"{spoil.__name__:10} {name:30} {rows[0]['alone']:.1f} alone, {rows[0]['at_best']:.1f} best, "
              f"{lost:.2f} lost, {verdicts}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
