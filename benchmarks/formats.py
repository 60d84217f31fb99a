"""What a format of the store costs the student: accuracy against bytes, on Fashion-MNIST.

    python -m benchmarks.formats [--out FILE]

A CNN is trained on every label; its words on the training set are stored in each format; an MLP of 128 units that has 2,000
labels learns from each store and from the live teacher, with the same seeds. Accuracy on the test set, ± standard error.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch

from benchmarks import machine
from limbeck.config import DistillationConfig, config_from
from limbeck.data import DataConfig, load_splits
from limbeck.evaluation import predict_logits
from limbeck.evaluation.metrics import classification_metrics
from limbeck.models import ModelConfig, build_model
from limbeck.run.training import train
from limbeck.store import Codec, Dense, Sampled, StoredTeacher, TeacherStore, TopK, build_store
from limbeck.teachers import InMemoryTeacher

T, SEEDS, EPOCHS = 2.0, 5, 8
CODECS: tuple[Codec, ...] = (
    Dense("float32"), Dense("float16"), Dense("bfloat16"), Dense("int8"), TopK(4, (T,)), TopK(2, (T,)), Sampled(12, T),
    Sampled(3, T),
)  # fmt: skip


def main() -> None:
    arguments = machine.begin(__doc__)
    told = machine.describe()
    splits = load_splits(DataConfig(name="fashion-mnist", labelled=2000), seed=0)
    config = config_from({"teacher": {"model": "cnn"}, "student": {"model": "mlp"}})
    cosine = {"save_strategy": "no", "logging_strategy": "no", "lr_scheduler_type": "cosine"}
    results: list[dict] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        torch.manual_seed(0)
        teacher = build_model(ModelConfig("cnn", {}), splits.shape)
        schedule = {**cosine, "per_device_train_batch_size": 128, "learning_rate": 2e-3, "num_train_epochs": 3}
        as_teacher = config.model_copy(update={"training": schedule})
        train(teacher, None, splits.train.with_labels(splits.true_labels), as_teacher, folder=folder / "t")
        accuracy = classification_metrics(predict_logits(teacher, splits.test), splits.test.labels).accuracy
        print(f"teacher {100 * accuracy:.1f} %", flush=True)

        rows = torch.full((int(splits.train.ids.max()) + 1, 10), torch.nan)
        rows[splits.train.ids] = predict_logits(teacher, splits.train)
        teachers: dict[str, tuple[object, float | None]] = {"live": (InMemoryTeacher(rows), None)}
        for codec in CODECS:
            build_store(teacher, splits.train, folder / repr(codec), codec)
            store = TeacherStore(folder / repr(codec))
            teachers[str(codec)] = StoredTeacher(store), codec.payload_bytes(10)
        schedule = {**cosine, "per_device_train_batch_size": 256, "learning_rate": 1e-2, "num_train_epochs": EPOCHS}
        objective = DistillationConfig(temperature=T, alpha=0.9)
        for name, (who, payload) in teachers.items():
            scores = []
            for seed in range(SEEDS):
                torch.manual_seed(seed)
                student = build_model(ModelConfig("mlp", {"hidden": [128]}), splits.shape)
                as_student = config.model_copy(update={"distillation": objective, "training": schedule, "seed": seed})
                train(student, who, splits.train, as_student, folder=folder / "s")
                scores.append(
                    100 * classification_metrics(predict_logits(student, splits.test), splits.test.labels).accuracy
                )
            error = statistics.stdev(scores) / len(scores) ** 0.5
            results.append({"name": name, "payload": payload, "accuracies": scores, "teacher": accuracy})
            print(f"{name}: {payload or ''} bytes, {statistics.mean(scores):.2f} ± {error:.2f} %", flush=True)
    machine.keep(arguments.out, told, {}, results)


if __name__ == "__main__":
    main()
