"""``limbeck temperature search``, and ``temperature: auto``: find the T of the student by training a few."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import xxhash
from torch import Tensor, nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.commands.opening import open_and_tell
from limbeck.config import Config, DistillationConfig
from limbeck.data import Splits
from limbeck.distributed import process_state
from limbeck.errors import ConfigError
from limbeck.evaluation import Answers, answers_of, predict_logits
from limbeck.losses import CollapsedTeacherWarning
from limbeck.run.folder import REPORT, SEARCH, check_folder, check_writable
from limbeck.run.teacher import precompute_teacher
from limbeck.run.training import (
    NO_LOGS_OR_CHECKPOINTS,
    build_seeded_model,
    count_steps,
    train,
    with_temperature,
)
from limbeck.tasks import task_named
from limbeck.teachers import Teacher
from limbeck.temperature import Choice, Quality, SearchPlan, Trial, search

JOURNAL, CHOICE = "students.journal", "choice.json"


def resolve_temperature(config: Config, *, resume: bool = False) -> tuple[Config, Choice | None]:
    """Replace ``temperature: auto`` by the temperature that a search finds.

    Args:
        config: the run.
        resume: the run may continue one that was begun in the folder with the same config.

    Returns:
        The config with a temperature, and what the search found; the config itself and None if it asks for no search.

    Raises:
        ConfigError: the config cannot be run, or its folder holds a run that this one does not resume.
        DataError: the data cannot be read.
        ModelError: a model cannot be built or loaded.
        StoreError: the stored teacher cannot be read, or it does not fit the data.
    """
    if config.distillation.temperature != "auto":
        return config, None
    check_folder(config, Path(config.out), resume=resume, ignoring=("distillation",))
    choice = search_temperature(config, Path(config.out) / SEARCH)
    return config.model_copy(update={"distillation": _with_settings_of(choice, config.distillation)}), choice


def search_temperature(config: Config, folder: Path, *, train_student: Callable[..., Any] = train) -> Choice:
    """Search the best temperature for a config's student, or continue a search.

    The folder gets the journal of the students, the choice as JSON and the page. Students are judged on validation
    examples; the test set is not used.

    Args:
        config: the run; ``search`` says what to try.
        folder: where to write.
        train_student: trains one student; called like ``limbeck.run.training.train``.

    Returns:
        What was found.

    Raises:
        ConfigError: the config cannot be run. Nothing was trained.
        DataError: the data cannot be read.
        ModelError: a model cannot be built or loaded.
        StoreError: the stored teacher cannot be read, or it does not fit the data.
    """
    if process_state().num_processes > 1:
        raise ConfigError(
            "distillation.temperature: a search trains one student in each process. Run limbeck temperature search without a "
            "launcher (several of them share one search), then name the temperature that it found."
        )
    import optuna  # noqa: F401 (where it is missing, the user hears of it before the models are loaded)

    plan = config.search
    config = with_temperature(config, plan.temperatures[0])
    check_writable(folder)
    train_trial, metric = _trial_trainer(config, folder, train_student)
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedTeacherWarning)  # low temperatures are tried on purpose
        name, journal = _study_name(config), folder / JOURNAL
        choice = search(train_trial, plan, journal=journal, name=name, progress="Training students")
        choice = replace(choice, metric=metric)
    shutil.rmtree(_scratch(folder), ignore_errors=True)
    write_json(folder / CHOICE, choice_as_dict(choice, plan))
    report.write_search_page(folder / REPORT, choice=choice, lines=describe_choice(choice, plan))
    return choice


def _trial_trainer(
    config: Config, folder: Path, train_student: Callable[..., Any]
) -> tuple[Callable[[Trial], Quality], str]:
    """Look at the run, and return a function that trains the student of a trial and measures it, and the metric's name."""
    opened, found = open_and_tell(config, Path(config.out), needs_temperature=True)
    splits, teacher = opened.splits, cast("nn.Module | Teacher", found)
    if isinstance(teacher, nn.Module) and not config.data.augmentation.is_on:
        teacher = precompute_teacher(teacher, splits.train) or teacher  # students see one view of each example
    training = {**config.training, **NO_LOGS_OR_CHECKPOINTS, "max_steps": count_steps(config, splits.train)}

    quality_of = _judge_of(splits, found)

    def train_trial(trial: Trial) -> Quality:
        seed = config.seed + trial.seed
        student = build_seeded_model(config.student, splits, seed)
        distillation = _with_settings_of(trial, config.distillation)
        settings = {"distillation": distillation, "training": training, "seed": seed}
        train_student(student, teacher, splits.train, config.model_copy(update=settings), folder=_scratch(folder))
        return quality_of(student)

    return train_trial, task_named(splits.task).score


def _judge_of(splits: Splits, teacher: object) -> Callable[[nn.Module], Quality]:
    """Return a function that measures a student on the validation examples."""
    task, examples = task_named(splits.task), splits.validation
    if task.unit != "example":
        return lambda student: _quality_of_answers(answers_of(student, examples))
    has_label = task.labelled(examples.labels)
    labels = examples.labels[has_label]
    if task.family != "softmax" or labels.dim() > 1:
        return lambda student: Quality.of_scores(
            task.scores(predict_logits(student, examples)[has_label], labels)[task.score].numpy()
        )
    # A store of the teacher's outputs holds those of training examples alone.
    told = predict_logits(teacher, examples)[has_label] if isinstance(teacher, nn.Module) else None
    return lambda student: Quality.of_logits(predict_logits(student, examples)[has_label], labels, told)


def _quality_of_answers(answers: Tensor | Answers) -> Quality:
    """Return the score of a student whose examples have several positions, in numbers for the examples."""
    assert isinstance(answers, Answers)
    return Quality.of_scores(answers.values_of_examples(answers.task.score).numpy())


def _scratch(folder: Path) -> Path:
    """Return a folder of this process for what trainings leave; several workers may share the search's folder."""
    return folder / f"scratch-{os.getpid()}"


def _with_settings_of(found: Trial | Choice, base: DistillationConfig) -> DistillationConfig:
    """Return the objective with the temperature, alpha and divergence of a trial or a choice."""
    changed: dict[str, Any] = {"temperature": found.temperature}
    if found.alpha is not None:
        changed["alpha"] = found.alpha
    if found.divergence is not None:
        changed |= {"divergence": found.divergence, "compensate": "curvature"}
    if found.policy is not None:
        changed["temperature"] = {"policy": found.policy}
    return base.model_copy(update=changed)


def _study_name(config: Config) -> str:
    """Return a name that is the same for the same students, so that one journal never mixes different ones."""
    values = config.model_dump(
        exclude={"out": True, "search": True, "compare": True, "cache": True, "distillation": {"temperature"}}
    )
    # "quality": how a student is measured; the numbers of older journals are others.
    return xxhash.xxh3_64_hexdigest(json.dumps({**values, "quality": "brier"}, sort_keys=True).encode())


def describe_choice(choice: Choice, plan: SearchPlan) -> list[str]:
    """Say what was chosen and why.

    Args:
        choice: what the search found.
        plan: what it tried.

    Returns:
        One line for each finding.
    """
    low, high = choice.interval
    tried = any(trial.temperature == choice.temperature for trial, _ in choice.trials if trial.alpha != 0)
    lines = [
        f"T = {choice.temperature:g}: the best of {len(plan.temperatures)} temperatures from {min(plan.temperatures):g} to "
        f"{max(plan.temperatures):g} on validation, by a smooth curve through the students at "
        f"T = {', '.join(f'{t:g}' for t in plan.trained)}"
        f"{'' if tried else '; no student was trained at it'}. Those from {low:g} to {high:g} are within one standard error.",
    ]
    if choice.verdict is not None:
        lines.append(choice.verdict.describe(metric=choice.metric))
    if choice.alpha is not None:
        lines.append(f"alpha = {choice.alpha:g} does better than the config's at this T.")
    if choice.divergence is not None:
        lines.append(
            f"{choice.divergence} does better than the config's divergence at this T, both compensated for curvature."
        )
    if choice.policy is not None:
        lines.append(f"The policy {choice.policy} does better than this T.")
    lines.append(f"Cost: {choice.cost} trainings.")
    return lines


def choice_as_dict(choice: Choice, plan: SearchPlan) -> dict[str, Any]:
    """Return the choice, the curve and every student as values that JSON can write.

    Args:
        choice: what the search found.
        plan: what it tried.

    Returns:
        The values by name.
    """
    assert choice.curve is not None
    behind, error = choice.curve.behind_best()
    return {
        "temperature": choice.temperature, "interval": list(choice.interval), "alpha": choice.alpha,
        "divergence": choice.divergence, "policy": choice.policy, "gain": choice.gain, "gain_error": choice.gain_error,
        "worthwhile": choice.worthwhile, "cost": choice.cost,
        "verdict": None if choice.verdict is None else {"answer": choice.verdict.answer, **asdict(choice.verdict)},
        "curve": [
            {"temperature": t, "behind": float(b), "error": float(e)}
            for t, b, e in zip(plan.temperatures, behind, error, strict=True)
        ],
        "students": [
            {**asdict(trial), f"validation_{choice.metric}": quality.score, "quality": quality.value}
            for trial, quality in choice.trials
        ],
    }  # fmt: skip
