"""Compare the store's formats by what they cost the student: test accuracy against bytes, on Fashion-MNIST.

    python -m benchmarks.formats [--out FILE]

A CNN is trained on all labels, and its outputs on the training set are stored in each format. An MLP of 128 units with 2,000
labels then learns from each store, and from the live teacher, with the same seeds. The script prints the test accuracy of
each student with its standard error, and saves the numbers as JSON in FILE.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch
from torch import nn

from benchmarks import machine
from limbeck.config import DistillationConfig, config_from
from limbeck.data import DataConfig, Examples, Splits, load_splits
from limbeck.evaluation import predict_logits
from limbeck.models import ModelConfig, build_model
from limbeck.run.training import train
from limbeck.store import Codec, Dense, Sampled, StoredTeacher, TeacherStore, TopK, build_store
from limbeck.tasks.metrics import classification_metrics
from limbeck.teachers import InMemoryTeacher, Teacher

T, SEEDS, EPOCHS = 2.0, 5, 8
CODECS: tuple[Codec, ...] = (
    Dense("float32"), Dense("float16"), Dense("bfloat16"), Dense("int8"), TopK(4, (T,)), TopK(2, (T,)), Sampled(12, T),
    Sampled(3, T),
)  # fmt: skip
CONFIG = config_from({"teacher": {"model": "cnn"}, "student": {"model": "mlp"}})
SCHEDULE = {"save_strategy": "no", "logging_strategy": "no", "lr_scheduler_type": "cosine"}


def accuracy(model: nn.Module, examples: Examples) -> float:
    """Return the fraction of examples that a model classifies correctly."""
    return classification_metrics(predict_logits(model, examples), examples.labels).accuracy


def train_teacher(splits: Splits, folder: Path) -> nn.Module:
    """Return a CNN that was trained on the true labels of the whole training set."""
    torch.manual_seed(0)
    teacher = build_model(ModelConfig("cnn", {}), splits.shape)
    labelled = splits.train.with_labels(splits.true_labels)
    schedule = {**SCHEDULE, "per_device_train_batch_size": 128, "learning_rate": 2e-3, "num_train_epochs": 3}
    train(teacher, None, labelled, CONFIG.model_copy(update={"training": schedule}), folder=folder / "t")
    return teacher


def build_teachers(model: nn.Module, examples: Examples, folder: Path) -> dict[str, tuple[Teacher, float | None]]:
    """Return the live teacher and the stored teacher of each format, with the bytes that an example takes."""
    logits = torch.full((int(examples.ids.max()) + 1, 10), torch.nan)
    logits[examples.ids] = predict_logits(model, examples)
    teachers: dict[str, tuple[Teacher, float | None]] = {"live": (InMemoryTeacher(logits), None)}
    for codec in CODECS:
        build_store(model, examples, folder / repr(codec), codec)
        store = TeacherStore(folder / repr(codec))
        teachers[str(codec)] = StoredTeacher(store), codec.payload_bytes(10)
    return teachers


def student_accuracies(teacher: Teacher, splits: Splits, folder: Path) -> list[float]:
    """Return the test accuracies, in percent, of students that differ in their seed."""
    schedule = {**SCHEDULE, "per_device_train_batch_size": 256, "learning_rate": 1e-2, "num_train_epochs": EPOCHS}
    settings = {"distillation": DistillationConfig(temperature=T, alpha=0.9), "training": schedule}
    accuracies = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        student = build_model(ModelConfig("mlp", {"hidden": [128]}), splits.shape)
        config = CONFIG.model_copy(update={**settings, "seed": seed})
        train(student, teacher, splits.train, config, folder=folder / "s")
        accuracies.append(100 * accuracy(student, splits.test))
    return accuracies


def main() -> None:
    """Train a student from each teacher, print the accuracies and save them."""
    arguments = machine.parse_arguments(__doc__)
    description = machine.describe_machine()
    splits = load_splits(DataConfig(name="fashion-mnist", labelled=2000), seed=0)
    results: list[dict] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = train_teacher(splits, folder)
        of_teacher = accuracy(model, splits.test)
        print(f"teacher {100 * of_teacher:.1f} %", flush=True)
        for name, (teacher, payload) in build_teachers(model, splits.train, folder).items():
            found = student_accuracies(teacher, splits, folder)
            error = statistics.stdev(found) / len(found) ** 0.5
            results.append({"name": name, "payload": payload, "accuracies": found, "teacher": of_teacher})
            print(f"{name}: {payload or ''} bytes, {statistics.mean(found):.2f} ± {error:.2f} %", flush=True)
    machine.save_results(arguments.out, description, {}, results)


if __name__ == "__main__":
    main()
