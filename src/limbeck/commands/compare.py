"""``limbeck compare``: was distillation worth it?

Every arm starts with the same weights, takes the same number of steps and is measured on the same test set. A student is
never compared only with one that was trained alone. Wherever the teacher labels more examples than have true labels, a
student that was trained on the teacher's *hard* labels of the same examples is compared too. The difference between this
student and the distilled one is what softness gained.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.commands.arms import Arm, all_arms, arms_of_numbers
from limbeck.commands.compare_page import comparison_details
from limbeck.commands.findings import (
    comparison_findings,
    confidence_finding,
    findings_of_numbers,
    labels_told,
    teacher_findings,
)
from limbeck.commands.opening import open_and_tell
from limbeck.config import Config
from limbeck.data import IGNORE_INDEX, Examples, Splits, hide_labels
from limbeck.evaluation import (
    Answers,
    ArmResult,
    Measured,
    answers_of,
    main_metric,
    milliseconds_per_batch,
    predict_logits,
    rows_of,
    test_metrics,
    train_arms,
    validation_score,
)
from limbeck.losses import CollapsedTeacherWarning
from limbeck.models import count_parameters, functions_of, load_model, save_model
from limbeck.models.forward import size_of
from limbeck.run.folder import CHECKPOINTS, METRICS, REPORT, save_student
from limbeck.run.inputs import load_run_splits
from limbeck.run.teacher import precompute_teacher
from limbeck.run.training import NO_LOGS_OR_CHECKPOINTS, build_seeded_model, count_steps, train, with_temperature
from limbeck.tasks import has_numbers, task_named
from limbeck.teachers import Teacher

RECORD = "arms.jsonl"
"""The file that keeps the metrics of finished trainings, one line for each arm and seed."""
SOME = 32
"""Of how many examples with several positions, such as pixels, the teacher's probabilities are described."""


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison found."""

    folder: Path
    """The run's folder."""
    splits: Splits
    teacher: nn.Module
    teacher_metrics: dict[str, float]
    arms: dict[str, ArmResult]
    """The result of each arm, by its name."""
    findings: list[str]
    """What the numbers say, in sentences."""
    best: str
    """The arm with the highest mean score on validation; its student of the first seed is the run's."""
    seeds: list[int]
    labels: int
    """How many labels of the training examples each student knows."""
    details: report.Details
    """The parts of the page below the results."""

    @property
    def headline(self) -> str:
        """Return the whole in one sentence."""
        return self.details.headline

    @property
    def metric(self) -> str:
        """Return the metric that the students are compared by."""
        return main_metric(self.splits)

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Return the metrics of the teacher and, as means over seeds, of each arm."""
        arms = {name: {metric: arm[metric].mean for metric in arm.metrics} for name, arm in self.arms.items()}
        return {"teacher": self.teacher_metrics, **arms}

    @property
    def caption(self) -> str:
        """Say what the results rest on, and what the errors beside them mean."""
        return report.table_caption(self.splits, len(self.seeds), labels_told(self.splits, self.labels))


def compare(config: Config, *, resume: bool = False) -> ComparisonResult:
    """Train and compare every arm of a config, and write the run folder with its table and its page.

    Args:
        config: the run; ``compare`` has the seeds and temperatures.
        resume: continue an interrupted comparison of the same config. Finished trainings are not repeated.

    Returns:
        What was found.

    Raises:
        ConfigError: the config cannot be run, or its folder holds a run that this one does not resume.
        DataError: the data cannot be read.
        ModelError: a model cannot be built or loaded.
    """
    result = train_all_arms(config, resume=resume)
    accuracies = report.comparison_figure(result.teacher_metrics, result.arms, result.metric)
    report.save_figure(accuracies, result.folder / "table.png")
    temperatures = [1.0, *config.compare.temperatures]
    report.write_comparison_page(
        result.folder / REPORT,
        details=result.details,
        results=report.comparison_table(result.teacher_metrics, result.arms),
        accuracies=accuracies,
        caption=result.caption,
        findings=result.findings,
        soft_targets=report.uncertain_images_figure(result.splits, result.teacher, temperatures),
        classes=report.class_table(result.means),
    )
    return result


def train_all_arms(config: Config, *, resume: bool = False) -> ComparisonResult:
    """Train every arm of ``config.compare`` with every seed; write ``metrics.json`` and the best student.

    Each seed draws the known labels again, the same for all arms.

    Args:
        config: the run.
        resume: continue an interrupted comparison of the same config.

    Returns:
        What was found.

    Raises:
        ConfigError: the config cannot be run, or its folder holds a run that this one does not resume.
        DataError: the data cannot be read.
        ModelError: a model cannot be built or loaded.
    """
    folder, started = Path(config.out), time.perf_counter()
    if config.distillation.temperature == "auto":  # each arm has a temperature of its own
        config = with_temperature(config, config.compare.temperatures[0])
    opened, teacher = open_and_tell(config, folder, begin=True, resume=resume, live_teacher=True)
    splits = opened.splits
    assert isinstance(teacher, nn.Module)
    trainer = ArmTrainer(config, splits, teacher, folder)
    seeds = [config.seed + i for i in range(config.compare.seeds)]
    metric = main_metric(splits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedTeacherWarning)  # the finding about the teacher says it once
        arms = train_arms(
            [arm.name for arm in trainer.arms], seeds, trainer.train_arm, record=folder / RECORD,
            progress="Training students",
        )  # fmt: skip
    best = max(arms, key=lambda arm: arms[arm][trainer.validation_score].mean)
    teacher_metrics = {
        **size_of(teacher),
        **test_metrics(trainer.teacher_test_answers, splits, None).metrics,
        "milliseconds_per_batch": milliseconds_per_batch(teacher, splits.test),
    }
    temperatures = config.compare.temperatures
    if has_numbers(trainer.task):
        found = findings_of_numbers(arms, metric)
    else:
        found = [
            *comparison_findings(arms, temperatures, metric, trainer.validation_score),
            confidence_finding(trainer.task, trainer.teacher_logits, temperatures),
        ]
    findings = [
        *found,
        *teacher_findings(teacher_metrics, arms[best][metric].mean, metric),
    ]
    labels = int(trainer.splits_of(seeds[0]).labelled.sum()) if trainer.task.has_labels else 0
    student = load_model(trainer.first_student(best), model=functions_of(config.student))
    save_student(student, folder, config, splits)
    details = comparison_details(trainer, arms, teacher, opened.facts, time.perf_counter() - started)
    result = ComparisonResult(folder, splits, teacher, teacher_metrics, arms, findings, best, seeds, labels, details)
    _write_metrics(result)
    return result


def _write_metrics(result: ComparisonResult) -> None:
    write_json(
        result.folder / METRICS,
        {
            "teacher": result.teacher_metrics,
            "arms": {name: arm.metrics for name, arm in result.arms.items()},
            "errors": {name: arm[result.metric].error for name, arm in result.arms.items() if len(result.seeds) > 1},
            "seeds": result.seeds,
            "test_examples": len(result.splits.test),
            "labels": result.labels,
            "headline": result.headline,
            "findings": result.findings,
            "best_on_validation": result.best,
        },
    )


class ArmTrainer:
    """Trains and measures one arm with one seed. The teacher's logits, which all arms share, are computed once.

    Args:
        config: the run.
        splits: its examples.
        teacher: the teacher, in eval mode.
        folder: the run's folder.
    """

    def __init__(self, config: Config, splits: Splits, teacher: nn.Module, folder: Path) -> None:
        self.task = task_named(splits.task)
        """What the labels are for."""
        self.validation_score = f"validation_{self.task.score}"
        """The metric that choices are made by."""
        has_transfer_set = not bool(splits.labelled.all())
        if has_numbers(self.task):
            self.arms = arms_of_numbers(
                config.distillation.distance or "mse",
                has_labels=self.task.has_labels,
                has_transfer_set=has_transfer_set,
            )
        else:
            self.arms = all_arms(config.compare.temperatures, has_transfer_set=has_transfer_set)
        self._all_labels = splits
        if config.data.labelled is not None and config.data.transfer == "labelled":  # these splits keep one draw alone
            everything = dataclasses.replace(config.data, labelled=None, transfer="all")
            self._all_labels = load_run_splits(config.model_copy(update={"data": everything}))
        steps = count_steps(config, splits.train)
        training = {**NO_LOGS_OR_CHECKPOINTS, **config.training, "max_steps": steps}
        self._logged = {name: value for name, value in training.items() if name != "logging_strategy"} | config.training
        self.config = config.model_copy(update={"training": training})
        self.splits, self._folder = splits, folder
        self._look_at_teacher(teacher)

    def _look_at_teacher(self, teacher: nn.Module) -> None:
        """Ask the teacher about all examples, once for all arms."""
        self._live_teacher = teacher
        everything, self._decisions = self._all_labels.train, dict[int, Tensor]()
        self.teacher_test_answers = answers_of(teacher, self.splits.test)
        self._validation = self.splits.validation
        if not self.task.has_labels:  # what students should return is what the teacher does
            self._validation = self._validation.with_labels(predict_logits(teacher, self._validation))
        is_changed, one_answer = self.config.data.augmentation.is_on, self.task.unit == "example"
        in_memory = precompute_teacher(teacher, everything) if one_answer or not is_changed else None
        self._teacher: nn.Module | Teacher = teacher if is_changed or in_memory is None else in_memory
        if one_answer:
            assert in_memory is not None
            answers = in_memory.at_temperature(1.0)({"example_id": everything.ids}).logits
            assert answers is not None
            self.teacher_logits: Tensor = answers
            """The teacher's logits of the training examples at T = 1, (N, V); of pixels or tokens those of a few examples."""
            return
        unlabelled = everything
        if self.task.unit != "token":  # every position counts, and tokens all have labels
            unlabelled = everything.with_labels(torch.full_like(everything.labels, IGNORE_INDEX))
        self.teacher_logits, _ = rows_of(teacher, unlabelled.subset(torch.arange(min(SOME, len(unlabelled)))))
        if not bool(self.splits.labelled.all()):
            found = answers_of(teacher, unlabelled, progress="Asking the teacher")
            assert isinstance(found, Answers)
            rows = found.decisions.split(found.counted.tolist())
            self._decisions = dict(zip(everything.ids.tolist(), rows, strict=True))

    def splits_of(self, seed: int) -> Splits:
        """Return the examples with the labels that a seed draws, the same for all arms.

        Args:
            seed: draws the known labels.
        """
        data = self.config.data
        return hide_labels(self._all_labels, data.labelled, transfer=data.transfer == "all", seed=seed)

    def train_arm(self, name: str, seed: int) -> Measured:
        """Train one arm with one seed.

        Args:
            name: the name of the arm.
            seed: draws the known labels, the initial weights and the order of the examples.

        Returns:
            The student's metrics.
        """
        arm = next(arm for arm in self.arms if arm.name == name)
        config = self.config.model_copy(update={"seed": seed})
        splits = self.splits_of(seed)
        student = build_seeded_model(config.student, splits, seed)
        examples = self._training_examples(arm, splits)
        teacher = self._teacher if arm.has_teacher else None
        if arm.distance is not None:
            objective = config.distillation.model_copy(update={"distance": arm.distance})
            config = config.model_copy(update={"distillation": objective})
        elif not has_numbers(self.task):
            config = with_temperature(config, arm.temperature or 1.0)
        is_first = seed == self.config.seed
        if is_first:
            config = config.model_copy(update={"training": self._logged})
        trained = train(student, teacher, examples, config, folder=self._folder / CHECKPOINTS)
        if is_first:
            save_model(student, self.first_student(name), config.student, splits.shape)
            write_json(self.log_of(name), trained.state.log_history)
        return self._measure(student)

    def first_student(self, name: str) -> Path:
        """Return the folder that keeps an arm's student of the first seed.

        Args:
            name: the name of the arm.

        Returns:
            The folder.
        """
        names = [arm.name for arm in self.arms]
        return self._folder / CHECKPOINTS / f"arm-{names.index(name)}"

    def log_of(self, name: str) -> Path:
        """Return the file that keeps the training log of an arm's student of the first seed.

        Args:
            name: the name of the arm.

        Returns:
            The file.
        """
        return self.first_student(name).with_suffix(".json")

    def _training_examples(self, arm: Arm, splits: Splits) -> Examples:
        if not arm.on_transfer_set:
            return splits.train.subset(splits.labelled.nonzero().squeeze(-1))
        if arm.has_teacher:
            return splits.train
        if self.task.unit != "example":
            return splits.train.with_decisions(self._decisions)
        known = splits.train.labels != IGNORE_INDEX
        labels = torch.where(known, splits.train.labels, self.task.decide(self.teacher_logits))
        return splits.train.with_labels(labels)

    def _measure(self, student: nn.Module) -> Measured:
        splits = self.splits
        measured = test_metrics(
            answers_of(student, splits.test, teacher=self._live_teacher), splits, self.teacher_test_answers
        )
        metrics = {
            "parameters": count_parameters(student),
            **measured.metrics,
            "milliseconds_per_batch": milliseconds_per_batch(student, splits.test, seconds=0.02),
            self.validation_score: validation_score(answers_of(student, splits.validation), self._validation),
        }
        return Measured(metrics, measured.by_example)
