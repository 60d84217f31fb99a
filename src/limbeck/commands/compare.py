"""Was distillation worth it? Every arm starts alike, takes the same steps and is measured on the same test set.

A student is never compared with one trained alone only: wherever the teacher labels more examples than have true
labels, a student trained on the teacher's *hard* labels of the same examples stands beside it. The difference is what
softness bought.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.config import Config
from limbeck.data import Examples, Splits, hide_labels
from limbeck.evaluation import ArmResult, Estimate, difference, milliseconds_per_batch, predict_logits, train_arms
from limbeck.evaluation.metrics import classification_metrics
from limbeck.losses import CollapsedTeacherWarning
from limbeck.models import count_parameters, functions_of, load_model, save_model
from limbeck.run.folder import CHECKPOINTS, METRICS, REPORT, save_student
from limbeck.run.opening import open_run
from limbeck.run.teacher import in_memory_teacher, obtain_teacher
from limbeck.run.training import QUIET, build_student, steps_of, train
from limbeck.teachers import Teacher

RECORD = "arms.jsonl"
"""What is finished, a line for each arm and seed."""
ALONE = "labels alone"
HARD = "transfer set, teacher's hard labels"


def soft_arm(temperature: float) -> str:
    """The arm that distils on the labelled examples."""
    return f"labels + soft targets, T = {temperature:g}"


def transfer_arm(temperature: float) -> str:
    """The arm that distils on the transfer set too."""
    return f"transfer set, soft targets, T = {temperature:g}"


@dataclass
class Comparison:
    """What a comparison found."""

    splits: Splits
    teacher: nn.Module
    teacher_metrics: dict[str, float]
    arms: dict[str, ArmResult]
    findings: list[str]
    best: str
    """The arm with the highest mean accuracy on validation; its student of the first seed is the run's."""


def run_comparison(config: Config, folder: Path, *, resume: bool = False) -> Comparison:
    """Train every arm of ``config.compare`` with every seed; write ``metrics.json`` and the best student.

    The known labels are drawn anew for each seed, the same for all arms.
    """
    if config.distillation.temperature == "auto":  # the arms have temperatures of their own
        first = config.distillation.model_copy(update={"temperature": config.compare.temperatures[0]})
        config = config.model_copy(update={"distillation": first})
    splits, teacher = open_run(config, folder, resume=resume)
    if not isinstance(teacher, nn.Module):
        teacher = obtain_teacher(config, splits, folder)
    bench = _Bench(config, splits, teacher, folder)
    seeds = [config.seed + i for i in range(config.compare.seeds)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedTeacherWarning)  # a line of the findings says it once
        record = folder / RECORD
        arms = train_arms(bench.arms(), seeds, bench.run, record=record, progress="Training students")
    best = max(arms, key=lambda arm: arms[arm]["validation_accuracy"].mean)
    teacher_metrics = {
        "parameters": count_parameters(teacher),
        **classification_metrics(bench.test_logits, splits.test.labels).as_dict(),
        "milliseconds_per_batch": milliseconds_per_batch(teacher, splits.test),
    }
    result = Comparison(
        splits,
        teacher,
        teacher_metrics,
        arms,
        [*findings(arms, config), confidence_finding(bench.teacher_logits, config)],
        best,
    )
    student = load_model(bench.first_student(best), model=functions_of(config.student))
    save_student(student, folder, config, splits)
    write_json(
        folder / METRICS,
        {
            "teacher": teacher_metrics,
            "arms": {name: arm.metrics for name, arm in arms.items()},
            "seeds": seeds,
            "findings": result.findings,
            "best_on_validation": best,
        },
    )
    return result


def compare_run(config: Config, *, resume: bool = False) -> tuple[Path, Comparison]:
    """``limbeck compare``: the comparison, its table and its page in a run folder."""
    folder = Path(config.out)
    result = run_comparison(config, folder, resume=resume)
    figure = report.comparison_figure(result.teacher_metrics, result.arms)
    report.save_figure(figure, folder / "table.png")
    report.write_page(
        folder / REPORT,
        "Was distillation worth it?",
        [
            report.Section("Test results", table=report.arm_rows(result.teacher_metrics, result.arms), figure=figure),
            report.Section("What the numbers say", lines=result.findings),
            report.soft_target_section(result.splits, result.teacher, [1.0, *config.compare.temperatures]),
        ],
    )
    return folder, result


class _Bench:
    """Trains one arm with one seed; what arms share (the teacher's words on every example) is computed once."""

    def __init__(self, config: Config, splits: Splits, teacher: nn.Module, folder: Path) -> None:
        self.config, self.splits, self.folder = config, splits, folder
        remembered = in_memory_teacher(teacher, splits.train)
        self.teacher_logits = remembered.logits[splits.train.ids]
        self.teacher: nn.Module | Teacher = teacher if config.data.augmentation.is_on else remembered
        self.test_logits = predict_logits(teacher, splits.test)
        self.training = {**QUIET, **config.training, "max_steps": steps_of(config, splits.train)}

    def arms(self) -> list[str]:
        temperatures = self.config.compare.temperatures
        names = [ALONE, *map(soft_arm, temperatures)]
        if not bool(self.splits.labelled.all()):
            names += [HARD, *map(transfer_arm, temperatures)]
        return names

    def first_student(self, arm: str) -> Path:
        """Where the student of an arm's first seed is kept."""
        return self.folder / CHECKPOINTS / f"arm-{self.arms().index(arm)}"

    def run(self, arm: str, seed: int) -> dict[str, float]:
        splits = hide_labels(self.splits, self.config.data.labelled, seed=seed)
        labelled = splits.train.subset(splits.labelled.nonzero().squeeze(-1))
        temperatures = self.config.compare.temperatures
        soft: dict[str, tuple[Examples, float]] = {
            **{soft_arm(t): (labelled, t) for t in temperatures},
            **{transfer_arm(t): (splits.train, t) for t in temperatures},
        }
        student = build_student(self.config.student, splits, seed)
        if arm in soft:
            examples, temperature = soft[arm]
            self._train(student, self.teacher, examples, seed, temperature)
        elif arm == HARD:
            hard = torch.where(splits.labelled, splits.train.labels, self.teacher_logits.argmax(-1))
            self._train(student, None, splits.train.with_labels(hard), seed)
        else:
            self._train(student, None, labelled, seed)
        if seed == self.config.seed:
            save_model(student, self.first_student(arm), self.config.student, splits.shape)
        return self._measure(student)

    def _train(
        self, student: nn.Module, teacher: nn.Module | Teacher | None, examples: Examples, seed: int, t: float = 1.0
    ) -> None:
        train(
            student,
            teacher,
            examples,
            self.config,
            folder=self.folder / CHECKPOINTS,
            distillation=self.config.distillation.model_copy(update={"temperature": t}),
            training=self.training,
            seed=seed,
        )

    def _measure(self, student: nn.Module) -> dict[str, float]:
        test_logits = predict_logits(student, self.splits.test)
        validation_logits = predict_logits(student, self.splits.validation)
        return {
            "parameters": count_parameters(student),
            **classification_metrics(test_logits, self.splits.test.labels, self.test_logits).as_dict(),
            "milliseconds_per_batch": milliseconds_per_batch(student, self.splits.test, seconds=0.02),
            "validation_accuracy": classification_metrics(validation_logits, self.splits.validation.labels).accuracy,
        }


def findings(arms: dict[str, ArmResult], config: Config) -> list[str]:
    """What softness bought, what T bought and what the transfer set bought, in a line each."""
    temperatures = config.compare.temperatures
    low, high = min(temperatures), max(temperatures)

    def chosen(arm: Callable[[float], str]) -> float:
        """The temperature that validation prefers."""
        return max(temperatures, key=lambda t: arms[arm(t)]["validation_accuracy"].mean)

    def gain(first: str, second: str) -> str:
        return _verdict(difference(arms[first], arms[second], "accuracy"))

    t = chosen(soft_arm)
    softness = [f"on the labelled examples, soft targets (T = {t:g}) over labels alone: {gain(soft_arm(t), ALONE)}"]
    temperature = [f"on the labelled examples, T = {high:g} over T = {low:g}: {gain(soft_arm(high), soft_arm(low))}"]
    transfer = []
    if HARD in arms:
        u = chosen(transfer_arm)
        softness.append(
            f"on the transfer set, soft targets (T = {u:g}) over the teacher's hard labels: {gain(transfer_arm(u), HARD)}"
        )
        temperature.append(f"on the transfer set: {gain(transfer_arm(high), transfer_arm(low))}")
        transfer.append(
            f"the unlabelled examples (T = {u:g}) over the labelled ones alone (T = {t:g}): "
            f"{gain(transfer_arm(u), soft_arm(t))}"
        )
    lines = [f"Softness: {'; '.join(softness)}. (T as chosen on validation.)"]
    if high > low:
        lines.append(f"Temperature: {'; '.join(temperature)}.")
    if transfer:
        lines.append(f"Transfer set: {'; '.join(transfer)}.")
    return lines


def confidence_finding(teacher_logits: Tensor, config: Config) -> str:
    """How much of its probability the teacher gives to one class at each temperature."""
    shares = (
        f"{100 * (teacher_logits / t).softmax(-1).amax(-1).mean().item():.3f} % at T = {t:g}"
        for t in config.compare.temperatures
    )
    return (
        f"Teacher: to its first class it gives on average {', '.join(shares)}, over the training examples; "
        "near 100 % soft targets are hard labels."
    )


def _verdict(gain: Estimate) -> str:
    """A gain in points of accuracy with its standard error, and what it means."""
    points, error = 100 * gain.mean, 100 * gain.error
    shown = f"{points:+.1f} ± {error:.1f} points"
    if math.isnan(error):
        return f"{points:+.1f} points (one seed: no error known)"
    if not gain.is_clear:
        return f"{shown}, nothing that these seeds can show"
    return f"{shown}, a gain" if points > 0 else f"{shown}, a loss"
