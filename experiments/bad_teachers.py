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
from pathlib import Path

import numpy as np
import torch
from experiments.many_students import train_students
from experiments.replay import CASES, SEEDS, choices, data_of
from torch import Tensor

from limbeck.temperature import TEMPERATURES


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


def main() -> None:
    """Train the students that are missing, and print what the search chose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where students, teachers and packages are kept")
    work = parser.parse_args().work
    torch.set_num_threads(1)
    for name, spoil in SPOILED:
        path = work / "bad_teachers" / f"{spoil.__name__}_{name.replace(' ', '_').replace(',', '')}.pt"
        if not path.exists():
            data = data_of(CASES[name], work)
            data = replace(data, teacher=spoil(data.teacher), validation_teacher=spoil(data.validation_teacher))
            validation, test = train_students(data, CASES[name].recipe, list(TEMPERATURES), SEEDS)
            path.parent.mkdir(exist_ok=True)
            kept = {
                "validation": validation, "test": test, "labels": data.validation_labels, "test_labels": data.test_labels,
                "teacher": data.validation_teacher,
            }  # fmt: skip
            torch.save(kept, path)
        rows = list(choices(torch.load(path)))
        lost = np.mean([row["at_best"] - row["at_chosen"] for row in rows])
        verdicts = ", ".join(sorted({row["verdict"] for row in rows}))
        print(f"{spoil.__name__:10} {name:30} {rows[0]['alone']:.1f} alone, {rows[0]['at_best']:.1f} best, "
              f"{lost:.2f} lost, {verdicts}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
