"""The demo: a real teacher into a real student on scikit-learn's digits, compared honestly, in under two minutes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck import report
from limbeck.commands.compare import Comparison, run_comparison
from limbeck.config import Config, DistillationConfig, config_from
from limbeck.data import Splits, hide_labels
from limbeck.evaluation import ArmResult, omission, predict_logits, train_arms
from limbeck.losses import CollapsedTeacherWarning
from limbeck.run.folder import REPORT
from limbeck.run.teacher import in_memory_teacher
from limbeck.run.training import QUIET, build_student, train

OMITTED = 3
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


@dataclass
class Demo:
    """What the demo found and where it wrote it."""

    folder: Path
    comparison: Comparison
    omitted: dict[str, ArmResult]

    @property
    def files(self) -> dict[str, Path]:
        """What there is to look at."""
        return {
            "student": self.folder / "student",
            "table": self.folder / "table.png",
            "soft targets": self.folder / "soft_targets.png",
            "report": self.folder / REPORT,
        }


def run_demo(out: str | None = None, overrides: list[str] | None = None) -> Demo:
    """Train the teacher and every student, write the folder."""
    config = config_from(SETTINGS if out is None else SETTINGS | {"out": out}, overrides or [], name="demo")
    folder = Path(config.out)
    result = run_comparison(config, folder, resume=True)
    omitted = omitted_class(config, result.splits, result.teacher, folder)
    demo = Demo(folder, result, omitted)

    table = report.comparison_figure(result.teacher_metrics, result.arms)
    targets = report.unsure_figure(result.splits, result.teacher, [1.0, *OMITTED_TEMPERATURES])
    report.save_figure(table, demo.files["table"])
    report.save_figure(targets, demo.files["soft targets"])
    _save_images(result.splits, folder / "images")
    report.write_page(
        demo.files["report"],
        "Limbeck's demo: digits",
        [
            report.Section("Test results", table=report.arm_rows(result.teacher_metrics, result.arms), figure=table),
            report.Section("What the numbers say", lines=result.findings),
            report.Section(
                f"The omitted class: no student ever saw a {OMITTED}",
                table=omitted_rows(omitted),
                lines=[omitted_finding(omitted)],
            ),
            report.Section(
                "Soft targets",
                figure=targets,
                caption="The teacher's probabilities for the test images it is least sure of, at several temperatures.",
            ),
        ],
    )
    return demo


def omitted_class(config: Config, splits: Splits, teacher: nn.Module, folder: Path) -> dict[str, ArmResult]:
    """Hinton's experiment: students that never see one digit, and how many of its test images they still get."""
    full = hide_labels(splits, None).train
    remembered = in_memory_teacher(teacher, full)
    seen = full.subset((full.labels != OMITTED).nonzero().squeeze(-1))
    arms = {HARD_LABELS: 0.0, **{f"soft targets, T = {t:g}": t for t in OMITTED_TEMPERATURES}}

    def run(arm: str, seed: int) -> dict[str, float]:
        student = build_student(config.student, splits, seed)
        distillation = DistillationConfig(temperature=arms[arm] or 1.0, alpha=1.0)
        settings = {**QUIET, **config.training}
        train(
            student,
            remembered if arms[arm] else None,
            seen,
            config,
            folder=folder / "checkpoints",
            distillation=distillation,
            training=settings,
            seed=seed,
        )
        validation, test = (predict_logits(student, part) for part in (splits.validation, splits.test))
        return omission(validation, splits.validation.labels, test, splits.test.labels, OMITTED)

    seeds = [config.seed + i for i in range(min(3, config.compare.seeds))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedTeacherWarning)
        return train_arms(list(arms), seeds, run, progress=f"Students without {OMITTED}")


def omitted_rows(omitted: dict[str, ArmResult]) -> list[tuple[str, ...]]:
    """The omitted class as a table."""
    header = ("student trained on", f"{OMITTED}s right, %", "after bias, %", "all right, %", "after bias, %")
    return [
        header,
        *(
            (name, *(f"{100 * arm[column].mean:.1f}" for column in ("before", "after", "all_before", "all_after")))
            for name, arm in omitted.items()
        ),
    ]


def omitted_finding(omitted: dict[str, ArmResult]) -> str:
    """What the omitted class shows, in a line."""
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
    """Some test images as files, to predict."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    batch = splits.test.__getitems__(range(count))
    for i, (pixels, label) in enumerate(zip(batch["pixel_values"], batch["labels"].tolist(), strict=True)):
        image = Image.fromarray((pixels[0] * 255).round().byte().numpy())
        image.save(folder / f"{i}_is_{splits.label_names[label]}.png")
