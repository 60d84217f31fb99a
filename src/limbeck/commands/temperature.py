"""``limbeck temperature``: what each T does to a teacher's words, and which T its student wants."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from limbeck import report
from limbeck.atomic_files import write_json
from limbeck.config import Config, DistillationConfig
from limbeck.data import Examples, FixedViews, Splits, load_splits
from limbeck.distributed import process_state
from limbeck.errors import ConfigError
from limbeck.evaluation import predict_logits
from limbeck.evaluation.metrics import classification_metrics
from limbeck.losses import CollapsedTeacherWarning
from limbeck.models import functions_of, load_model
from limbeck.run.folder import REPORT, STUDENT, check_folder, read_run
from limbeck.run.teacher import in_memory_teacher, obtain_teacher, stored_teacher
from limbeck.run.training import QUIET, arguments, build_student, steps_of, train
from limbeck.store import StoredTeacher
from limbeck.teachers import Teacher
from limbeck.temperature import Choice, SearchPlan, Trial, search
from limbeck.temperature.analysis import Analysis, analyze

SEARCH, JOURNAL, CHOICE = "search", "students.journal", "choice.json"
ANALYSIS = "analysis.json"
SAMPLE, VIEWS = 5000, 8


def with_chosen_temperature(config: Config, *, resume: bool = False) -> tuple[Config, Choice | None]:
    """The config itself, or with ``temperature: auto`` the same with what the search finds, and that."""
    if config.distillation.temperature != "auto":
        return config, None
    check_folder(config, Path(config.out), resume=resume, ignoring=("distillation",))
    choice = search_config(config, Path(config.out) / SEARCH)
    return config.model_copy(update={"distillation": _objective(config.distillation, choice)}), choice


def _objective(base: DistillationConfig, what: Trial | Choice) -> DistillationConfig:
    """The objective of a trial, or of what was chosen."""
    changed: dict[str, Any] = {"temperature": what.temperature}
    if what.alpha is not None:
        changed["alpha"] = what.alpha
    if what.divergence is not None:
        changed |= {"divergence": what.divergence, "compensate": "curvature"}
    return base.model_copy(update=changed)


def search_config(config: Config, folder: Path) -> Choice:
    """Run or go on with the search that a config describes; leave its students, its choice and its page in a folder.

    Students are judged on validation data; the test set is not looked at.

    Raises:
        ConfigError: a fault in the config; nothing was trained.
    """
    if process_state().num_processes > 1:
        raise ConfigError(
            "distillation.temperature: a search trains one student in each process. Run limbeck temperature search without a "
            "launcher (several of them share one search), then name the temperature that it found."
        )
    plan = config.search
    objective = config.distillation.model_copy(update={"temperature": plan.temperatures[0]})
    config = config.model_copy(update={"distillation": objective})
    splits = load_splits(config.data, seed=config.seed)
    build_student(config.student, splits, config.seed)
    arguments(config, folder)
    teacher: nn.Module | Teacher = _asked(config, splits)
    if isinstance(teacher, nn.Module) and not config.data.augmentation.is_on:
        teacher = in_memory_teacher(teacher, splits.train)  # students see one view of each example
    folder.mkdir(parents=True, exist_ok=True)
    whole = steps_of(config, splits.train)
    scratch = folder / f"scratch-{os.getpid()}"

    def train_one(trial: Trial) -> float:
        seed = config.seed + trial.seed
        student = build_student(config.student, splits, seed)
        train(
            student, teacher, splits.train, config, folder=scratch, distillation=_objective(objective, trial),
            training={**config.training, **QUIET, "max_steps": whole}, seed=seed,
        )  # fmt: skip
        return classification_metrics(predict_logits(student, splits.validation), splits.validation.labels).accuracy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedTeacherWarning)  # low temperatures are tried on purpose
        name, journal = _name_of(config), folder / JOURNAL
        choice = search(train_one, plan, journal=journal, name=name, progress="Training students")
    shutil.rmtree(scratch, ignore_errors=True)
    write_json(folder / CHOICE, choice_as_dict(choice, plan))
    lines, figure = choice_lines(choice, plan), report.search_figure(choice)
    report.write_page(folder / REPORT, "Which temperature?", [report.Section("Search", lines=lines, figure=figure)])
    return choice


def _name_of(config: Config) -> str:
    """Of the study: the same for the same students, so that one journal never mixes two."""
    told = config.model_dump(
        exclude={"out": True, "search": True, "compare": True, "cache": True, "distillation": {"temperature"}}
    )
    return xxhash.xxh3_64_hexdigest(json.dumps(told, sort_keys=True).encode())


def choice_lines(choice: Choice, plan: SearchPlan) -> list[str]:
    """What was chosen and why."""
    low, high = choice.interval
    points, error = 100 * choice.gain, 100 * choice.gain_error
    lines = [
        f"T = {choice.temperature:g}: of {len(plan.temperatures)} temperatures from {min(plan.temperatures):g} to "
        f"{max(plan.temperatures):g}, those from {low:g} to {high:g} are within one standard error of the best on validation, "
        "and of those that were tried this is the nearest to their middle.",
        f"Over the same student without a teacher: {points:+.1f} ± {error:.1f} points of validation accuracy.",
    ]
    if not choice.worthwhile:
        lines.append(
            "No temperature beats training without a teacher by more than one standard error: distillation does not pay here."
        )
    if choice.alpha is not None:
        lines.append(f"alpha = {choice.alpha:g} does better than the config's at this T.")
    if choice.divergence is not None:
        lines.append(
            f"{choice.divergence} does better than the config's divergence at this T, both compensated for curvature."
        )
    lines.append(f"Cost: {choice.cost} trainings.")
    return lines


def choice_as_dict(choice: Choice, plan: SearchPlan) -> dict[str, Any]:
    """For JSON: the choice, the curve and every student."""
    assert choice.curve is not None
    behind, error = choice.curve.behind_best()
    return {
        "temperature": choice.temperature, "interval": list(choice.interval), "alpha": choice.alpha,
        "divergence": choice.divergence, "gain": choice.gain, "gain_error": choice.gain_error,
        "worthwhile": choice.worthwhile, "cost": choice.cost,
        "curve": [
            {"temperature": t, "behind": float(b), "error": float(e)}
            for t, b, e in zip(plan.temperatures, behind, error, strict=True)
        ],
        "students": [
            {**asdict(trial), "validation_accuracy": value} for trial, value in choice.trials
        ],
    }  # fmt: skip


def analyze_config(config: Config, folder: Path, *, student: Path | None = None) -> Analysis:
    """Analyse a config's teacher, live or stored, on up to 5,000 training examples; leave plots, page and JSON in a folder.

    Args:
        config: the run.
        folder: where to.
        student: the folder of a run, whose student stands for the one to come.

    Raises:
        ConfigError: a fault.
    """
    if student is not None:
        read_run(student)
    splits = load_splits(config.data, seed=config.seed)
    teacher = _asked(config, splits)
    true = splits.train.with_labels(splits.true_labels)
    generator = torch.Generator().manual_seed(config.seed)
    some = true.subset(torch.randperm(len(true), generator=generator)[:SAMPLE].sort().values)
    logits, views, kind = _views(teacher, some, config)
    student_logits = None
    if student is not None:
        student_model = load_model(student / STUDENT, model=functions_of(config.student))
        student_logits = predict_logits(student_model, some)
    held_out = None
    if isinstance(teacher, nn.Module):  # it has seen the labels of its training examples
        held_out = predict_logits(teacher, splits.validation), splits.validation.labels
    found = analyze(logits, some.labels, student_logits=student_logits, held_out=held_out, views=views, view_kind=kind)
    write_json(folder / ANALYSIS, found.as_dict())
    report.write_page(folder / REPORT, "What each temperature does", report.analysis_sections(found))
    return found


def _asked(config: Config, splits: Splits) -> nn.Module | StoredTeacher:
    if config.teacher.cache is not None:
        return stored_teacher(config, splits)
    return obtain_teacher(config, splits, Path(config.out))


def _views(teacher: nn.Module | StoredTeacher, examples: Examples, config: Config) -> tuple[Tensor, Tensor | None, str]:
    """The teacher's logits, and its logits on several views of each example, and what these are."""
    if isinstance(teacher, StoredTeacher):
        stored = teacher.views
        numbers = [None] if stored is None else [torch.full_like(examples.ids, v) for v in range(stored.count)]
        outputs = [teacher.store.look_up(examples.ids, view).logits for view in numbers]
        if outputs[0] is None:
            raise ConfigError(
                "teacher.cache: this store keeps a few classes of each example; the analysis needs all logits."
            )
        views = torch.stack([z.float() for z in outputs if z is not None])
        return views[0], views if stored is not None else None, "the store's views"
    logits = predict_logits(teacher, examples)
    view = config.data.augmentation
    augmentation = config.teacher.augmentation or view
    if augmentation.shift or augmentation.flip:
        fixed = FixedViews(VIEWS, augmentation.shift, augmentation.flip, config.seed)
        shown = [_Shown(examples, fixed, v) for v in range(VIEWS)]
        return logits, torch.stack([predict_logits(teacher, some) for some in shown]), "augmented views"
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in teacher.modules()):
        return logits, torch.stack([_with_dropout(teacher, examples, seed) for seed in range(VIEWS)]), "dropout passes"
    return logits, None, ""


class _Shown(Examples):
    """Examples in one of their fixed views."""

    def __init__(self, examples: Examples, views: FixedViews, view: int) -> None:
        super().__init__(examples.load, examples.labels, examples.ids)
        self._views, self._view = views, view

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        batch = super().__getitems__(indices)
        return self._views.select(batch, torch.full_like(batch["example_id"], self._view))


def _with_dropout(teacher: nn.Module, examples: Examples, seed: int) -> Tensor:
    """One pass with the dropout layers on, and they alone."""
    layers = [module for module in teacher.modules() if isinstance(module, nn.Dropout)]
    forward = [layer.forward for layer in layers]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in layers:
            layer.forward = partial(nn.functional.dropout, p=layer.p, training=True)
        try:
            return predict_logits(teacher, examples)
        finally:
            for layer, before in zip(layers, forward, strict=True):
                layer.forward = before
