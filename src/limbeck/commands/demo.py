"""``limbeck demo``: distil a teacher into a student on scikit-learn's digits and compare, in under two minutes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck import report
from limbeck.commands.compare import ComparisonResult, train_all_arms
from limbeck.config import Config, DistillationConfig, config_from
from limbeck.data import Splits, hide_labels
from limbeck.evaluation import ArmResult, Measured, omitted_class_metrics, predict_logits, train_arms
from limbeck.losses import CollapsedTeacherWarning
from limbeck.run.folder import CHECKPOINTS, REPORT, STUDENT, is_begun
from limbeck.run.teacher import precompute_teacher
from limbeck.run.training import NO_LOGS_OR_CHECKPOINTS, build_seeded_model, train

OMITTED = 3
"""The digit that some students never see."""
OMITTED_TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
HARD_LABELS = "hard labels"

SETTINGS: dict[str, Any] = {
    "out": "runs/demo",
    "data": {"name": "digits", "labelled": 100},
    "teacher": {
        "model": "cnn",
        "training": {
            "max_steps": 400,
            "per_device_train_batch_size": 64,
            "learning_rate": 2e-3,
            "lr_scheduler_type": "cosine",
        },
    },
    "student": {"model": "mlp", "settings": {"hidden": [64]}},
    "distillation": {"alpha": 0.9, "temperature": 8.0},
    "training": {
        "max_steps": 500,
        "per_device_train_batch_size": 64,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine",
    },
    "compare": {"seeds": 5, "temperatures": [1.0, 8.0]},
}


@dataclass(frozen=True)
class DemoResult:
    """What the demo found and where it wrote it."""

    folder: Path
    comparison: ComparisonResult
    omitted: dict[str, ArmResult]
    """The students that were trained without one class, by the name of their arm."""

    @property
    def files(self) -> dict[str, Path]:
        """Return the files for the user to look at, by name."""
        return {
            "student": self.folder / STUDENT,
            "table": self.folder / "table.png",
            "soft targets": self.folder / "soft_targets.png",
            "report": self.folder / REPORT,
        }


def run_demo(out: str | None = None, overrides: Sequence[str] = ()) -> DemoResult:
    """Train the teacher and every student, and write the run folder.

    Args:
        out: the run's folder; None for runs/demo.
        overrides: changes of the demo's config, such as ``"compare.seeds=1"``.

    Returns:
        What was found.

    Raises:
        ConfigError: an override is wrong, or the folder holds another run.
    """
    config = config_from(SETTINGS if out is None else SETTINGS | {"out": out}, overrides, name="demo")
    comparison = train_all_arms(config, resume=is_begun(Path(config.out)))
    omitted = train_without_class(config, comparison.splits, comparison.teacher)
    demo = DemoResult(comparison.folder, comparison, omitted)

    accuracies = report.comparison_figure(comparison.teacher_metrics, comparison.arms, comparison.metric)
    temperatures = [1.0, *OMITTED_TEMPERATURES]
    soft_targets = report.uncertain_images_figure(comparison.splits, comparison.teacher, temperatures)
    report.save_figure(accuracies, demo.files["table"])
    if soft_targets is not None:
        report.save_figure(soft_targets, demo.files["soft targets"])
    _save_images(comparison.splits, demo.folder / "images")
    report.write_demo_page(
        demo.files["report"],
        results=report.comparison_table(comparison.teacher_metrics, comparison.arms),
        accuracies=accuracies,
        caption=comparison.caption,
        findings=comparison.findings,
        details=comparison.details,
        soft_targets=soft_targets,
        omitted_class=OMITTED,
        omitted_results=omitted_class_table(omitted),
        omitted_finding=omitted_class_finding(omitted),
    )
    return demo


def train_without_class(config: Config, splits: Splits, teacher: nn.Module) -> dict[str, ArmResult]:
    """Train students that never see one digit, and measure how many of its test images they get right.

    This is the experiment of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 3.

    Args:
        config: the run.
        splits: its examples.
        teacher: the teacher, which saw every digit.

    Returns:
        The result of each arm, by its name: hard labels, and soft targets at several temperatures.
    """
    full = hide_labels(splits, None).train
    in_memory = precompute_teacher(teacher, full)
    examples = full.subset((full.labels != OMITTED).nonzero().squeeze(-1))
    arms = {HARD_LABELS: None, **{f"soft targets, T = {t:g}": t for t in OMITTED_TEMPERATURES}}
    training = {**NO_LOGS_OR_CHECKPOINTS, **config.training}

    def train_arm(arm: str, seed: int) -> Measured:
        student = build_seeded_model(config.student, splits, seed)
        temperature = arms[arm]
        objective = DistillationConfig(temperature=temperature or 1.0, alpha=1.0)
        arm_config = config.model_copy(update={"distillation": objective, "training": training, "seed": seed})
        arm_teacher = None if temperature is None else in_memory
        train(student, arm_teacher, examples, arm_config, folder=Path(config.out) / CHECKPOINTS)
        validation, test = (predict_logits(student, part) for part in (splits.validation, splits.test))
        return Measured(omitted_class_metrics(validation, splits.validation.labels, test, splits.test.labels, OMITTED))

    seeds = [config.seed + i for i in range(min(3, config.compare.seeds))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedTeacherWarning)
        return train_arms(list(arms), seeds, train_arm, progress=f"Students without {OMITTED}")


def omitted_class_table(omitted: Mapping[str, ArmResult]) -> report.Table:
    """Make a table of the students that were trained without one class.

    Args:
        omitted: the result of each arm, by its name.

    Returns:
        A header, then one row for each arm.
    """
    header = ("student trained on", f"{OMITTED}s right, %", "after bias, %", "all right, %", "after bias, %")
    columns = ("before", "after", "all_before", "all_after")
    return [
        header,
        *((name, *(f"{100 * arm[column].mean:.1f}" for column in columns)) for name, arm in omitted.items()),
    ]


def omitted_class_finding(omitted: Mapping[str, ArmResult]) -> str:
    """Say how many images of the omitted class the best distilled student gets right.

    Args:
        omitted: the result of each arm, by its name.

    Returns:
        The sentence.
    """
    hard = omitted[HARD_LABELS]
    name, best = max(
        ((name, arm) for name, arm in omitted.items() if name != HARD_LABELS),
        key=lambda item: item[1]["validation_after"].mean,
    )
    return (
        f"Omitted class: of the test {OMITTED}s, a digit the student never saw, {name} (chosen on validation) get "
        f"{100 * best['before'].mean:.0f} %, and {100 * best['after'].mean:.0f} % once that class's bias is corrected on "
        f"validation; hard labels get {100 * hard['before'].mean:.0f} % and {100 * hard['after'].mean:.0f} %."
    )


def _save_images(splits: Splits, folder: Path, count: int = 10) -> None:
    """Write some test images as files, for the user to predict."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    batch = splits.test.__getitems__(range(count))
    for i, (pixels, label) in enumerate(zip(batch["pixel_values"], batch["labels"].tolist(), strict=True)):
        image = Image.fromarray((pixels[0] * 255).round().byte().numpy())
        image.save(folder / f"{i}_is_{splits.label_names[label]}.png")
