"""Compare a step of ``DistillationTrainer`` with one of the Hugging Face Trainer and a ``compute_loss`` written by hand.

    python -m benchmarks.trainer [--out FILE]

Both train the same small student on the same small teacher, where a step is nearly all overhead. Runs of both alternate in one
process, and the fastest of each counts. The script prints a table in ms of the process's own time for each step.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from benchmarks import machine
from limbeck import DistillationArguments, DistillationTrainer

STEPS, ROUNDS, BATCH = 200, 5, 32
CLASSES, WIDTH = 10, 16
T, ALPHA = 2.0, 0.5
ARGUMENTS: dict[str, Any] = dict(
    max_steps=STEPS, per_device_train_batch_size=BATCH, logging_steps=50, save_strategy="no", report_to=[],
    disable_tqdm=True, learning_rate=1e-3, remove_unused_columns=False,
)  # fmt: skip


class ByHand(Trainer):
    """The Trainer with the loss that people write."""

    teacher: nn.Module

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        labels = inputs["labels"]
        student = model(inputs["x"])["logits"]
        with torch.no_grad():
            teacher = self.teacher(inputs["x"])["logits"]
        soft = F.kl_div(
            F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1), log_target=True, reduction="batchmean"
        )
        return ALPHA * T * T * soft + (1 - ALPHA) * F.cross_entropy(student, labels)


class Network(nn.Module):
    """A small classifier that returns a dictionary, as the Trainer expects."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.layers(x)}


def data() -> Any:
    """Return random examples."""
    return [{"x": torch.randn(WIDTH), "labels": torch.tensor(i % CLASSES)} for i in range(BATCH * 50)]


def trainers(folder: str) -> dict[str, Trainer]:
    """Return both trainers by name, the one with the loss by hand first."""
    torch.manual_seed(0)
    examples, teacher = data(), Network().to(machine.DEVICE).eval()
    by_hand = ByHand(Network(), TrainingArguments(folder, **ARGUMENTS), train_dataset=examples)
    by_hand.teacher = teacher
    arguments = DistillationArguments(folder, temperature=T, alpha=ALPHA, **ARGUMENTS)
    return {
        "by hand": by_hand,
        "limbeck": DistillationTrainer(Network(), teacher, arguments, train_dataset=examples),
    }


def measure() -> list[dict]:
    """Return the seconds of a step of both trainers, each the fastest of several runs."""
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        both = trainers(folder)
        for _ in range(ROUNDS):
            for name, trainer in both.items():
                trainer.log = lambda *args, **kwargs: None  # pyright: ignore[reportAttributeAccessIssue]
                start = time.process_time()
                trainer.train()
                best[name] = min(best.get(name, float("inf")), (time.process_time() - start) / STEPS)
    return [{"name": name, "seconds": seconds} for name, seconds in best.items()]


def main() -> None:
    """Measure, print the table and save the results."""
    arguments = machine.parse_arguments(__doc__)
    description = machine.describe_machine()
    print(*(f"{name}: {value}" for name, value in description.items()), sep="\n")
    results = measure()
    print("\n| trainer | ms a step | more than by hand |\n|---|--:|--:|")
    for row in results:
        more = 1e3 * (row["seconds"] - results[0]["seconds"])
        print(f"| {row['name']} | {1e3 * row['seconds']:.2f} | {more:+.2f} |")
    machine.save_results(arguments.out, description, {}, results)


if __name__ == "__main__":
    main()
