"""From a config to a run folder.

config.yaml      the config, every default filled in
teacher/         the teacher, where the run trained it
student/         the student: safetensors and a config
checkpoints/     what an interrupted run goes on from
metrics.json     results on validation and test, and the training log
report.html      the same to read
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import report
from limbeck.config import (
    AugmentationConfig,
    Config,
    DataConfig,
    DistillationConfig,
    ModelConfig,
    load_config,
    write_config,
)
from limbeck.data import Augmentation, Examples, SourceOptions, Splits, as_is, load_splits
from limbeck.errors import ConfigError, StoreError
from limbeck.evaluation import milliseconds_per_batch, predict_logits
from limbeck.files import write_json
from limbeck.metrics import measure
from limbeck.models import BUILT_IN, ModelSpec, build_model, count_parameters, load_model, save_model
from limbeck.processes import processes
from limbeck.teachers import RememberedTeacher, Teacher
from limbeck.teachers.store import StoredTeacher, TeacherStore

CONFIG, METRICS, REPORT = "config.yaml", "metrics.json", "report.html"
QUIET = {"save_strategy": "no", "logging_strategy": "no", "eval_strategy": "no"}
"""For a training that leaves nothing but its model."""
STUDENT, TEACHER, CHECKPOINTS = "student", "teacher", "checkpoints"


def distill(config: Config, *, resume: bool = False) -> Path:
    """Train the student that a config describes, and leave a run folder.

    Args:
        config: the run.
        resume: go on with an interrupted run of the same config.

    Raises:
        ConfigError: the folder holds a run already, or one of another config.
    """
    folder = Path(config.out)
    splits, teacher = open_run(config, folder, resume=resume)
    teacher = teacher or obtain_teacher(config, splits, folder)
    student = build_student(config.student, splits, config.seed)
    started = time.perf_counter()
    trainer = train(
        student,
        teacher if config.distillation.alpha > 0 else None,
        splits.train,
        config,
        folder=folder / CHECKPOINTS,
        validation=splits.validation,
        resume=resume,
        title="Training the student",
    )
    seconds = time.perf_counter() - started
    if trainer.is_world_process_zero():
        save_student(student, folder, config, splits)
        asked = {"teacher": teacher} if isinstance(teacher, nn.Module) else {}
        results = evaluate_models({**asked, "student": student}, splits)
        history = trainer.state.log_history
        write_json(folder / METRICS, {"results": results, "seconds": round(seconds, 2), "log": history})
        report.write_run_page(folder / REPORT, config.model_dump(), splits, results, history, asked.get("teacher"))
    trainer.accelerator.wait_for_everyone()
    return folder


def evaluate(folder: str | Path) -> dict[str, dict[str, float]]:
    """Measure a run's student, and its teacher where the run has one, on the test set again."""
    folder = Path(folder)
    config = read_run(folder)
    splits = load_data(config.data, config.seed)
    models = {"student": load_model(folder / STUDENT)}
    if (folder / TEACHER).is_dir():
        models = {"teacher": load_model(folder / TEACHER), **models}
    elif config.teacher.training is None and config.teacher.cache is None:
        models = {"teacher": obtain_teacher(config, splits, folder), **models}
    return evaluate_models(models, splits)


def train(
    student: nn.Module,
    teacher: nn.Module | Teacher | None,
    examples: Examples,
    config: Config,
    *,
    folder: Path,
    distillation: DistillationConfig | None = None,
    training: dict[str, Any] | None = None,
    augmentation: AugmentationConfig | None = None,
    validation: Examples | None = None,
    seed: int | None = None,
    resume: bool = False,
    title: str | None = None,
) -> Any:
    """Train one model with a ``DistillationTrainer``; without a teacher, on labels alone. Settings default to the config's.

    Returns:
        The trainer.
    """
    from transformers import PrinterCallback
    from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

    from limbeck.training import DistillationTrainer, last_complete_checkpoint
    from limbeck.training.callbacks import ProgressBar

    objective = distillation or config.distillation
    if teacher is None:
        objective = objective.model_copy(update={"alpha": 0.0})
    args = arguments(config, folder, distillation=objective, training=training, seed=seed)
    asked = augmentation or config.data.augmentation
    # With a stored teacher the trainer shows the store's own views.
    augmented = asked.is_on and not isinstance(teacher, StoredTeacher)
    trainer = DistillationTrainer(
        student,
        teacher,
        args,
        as_is,
        examples,
        validation,
        augment=Augmentation(**asked.model_dump()) if augmented else None,
        callbacks=[] if title is None else [ProgressBar(title)],
    )
    for callback in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
        trainer.remove_callback(callback)
    checkpoint = last_complete_checkpoint(folder) if resume else None
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return trainer


def arguments(
    config: Config,
    folder: Path,
    *,
    distillation: DistillationConfig | None = None,
    training: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Any:
    """The ``DistillationArguments`` of one training, defaulting to the config's.

    Raises:
        ConfigError: arguments that Transformers refuses.
    """
    from limbeck.training import DistillationArguments

    if (distillation or config.distillation).temperature == "auto":
        raise ConfigError(
            "distillation.temperature: auto is for limbeck distill, which searches first. Name a number here, or a policy."
        )
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": config.seed if seed is None else seed,
        "save_total_limit": 2,
        "disable_tqdm": True,
        **(config.training if training is None else training),
    }
    try:
        return DistillationArguments(**settings, **(distillation or config.distillation).model_dump())
    except (ValueError, ImportError, TypeError) as error:
        raise ConfigError(f"training: {' '.join(str(error).split())}") from None


def steps_of(config: Config, examples: Examples) -> int:
    """How many steps the config's training takes over these examples.

    Raises:
        ConfigError: none.
    """
    settings: dict[str, Any] = config.training
    if settings.get("max_steps", -1) > 0:
        return settings["max_steps"]
    batch = settings.get("per_device_train_batch_size", 8) * settings.get("gradient_accumulation_steps", 1)
    steps = math.ceil(math.ceil(len(examples) / batch) * settings.get("num_train_epochs", 3))
    if steps < 1:
        raise ConfigError("training: no step to take; set max_steps or num_train_epochs.")
    return steps


def remember(teacher: nn.Module, examples: Examples) -> RememberedTeacher:
    """Ask the teacher once about every example, for students that see each in one view only."""
    logits = predict_logits(teacher, examples, progress="Asking the teacher")
    # example_id counts the source's rows, of which these examples are some
    rows = logits.new_full((int(examples.rows.max()) + 1, logits.shape[1]), math.nan)
    rows[examples.rows] = logits
    return RememberedTeacher(rows)


def load_data(data: DataConfig, seed: int) -> Splits:
    """The examples that a config names; ``seed`` draws which labels are known."""
    known = {field.name for field in dataclasses.fields(SourceOptions)}
    options = SourceOptions(**{name: value for name, value in data.model_dump().items() if name in known})
    return load_splits(options, labelled=data.labelled, transfer=data.transfer == "all", seed=seed)


def obtain_teacher(config: Config, splits: Splits, folder: Path) -> nn.Module:
    """Load the teacher, or train it on every true label of the training set and keep it in the run's folder."""
    spec = config.teacher
    if not spec.model:
        raise ConfigError(
            "teacher.model: needed here, where the teacher itself is run; a cache of its words is not enough."
        )
    if spec.training is None:
        if spec.model in BUILT_IN:
            raise ConfigError(
                f"teacher.model: {spec.model} has no weights yet. Add teacher.training to train it, or name a trained model."
            )
        return build_student(spec, splits, config.seed).eval()
    saved = folder / TEACHER
    if (saved / "config.json").is_file():
        return load_model(saved)
    teacher = build_student(spec, splits, config.seed)
    trainer = train(
        teacher,
        None,
        splits.train.with_labels(splits.true_labels),
        config,
        folder=folder / CHECKPOINTS / TEACHER,
        training={**QUIET, **spec.training},
        augmentation=spec.augmentation,
        title="Training the teacher",
    )
    if trainer.is_world_process_zero():
        save_model(teacher, saved, spec_of(spec), splits.shape)
    trainer.accelerator.wait_for_everyone()
    return teacher.eval()


def stored_teacher(config: Config, splits: Splits) -> StoredTeacher:
    """Open the store that a config names, and see that it fits: these examples, this temperature, one view.

    Raises:
        StoreError, ConfigError: it does not.
    """
    assert config.teacher.cache is not None
    store = TeacherStore(config.teacher.cache)
    if store.description.classes != splits.shape.classes:
        raise StoreError(
            f"{store.place}: has {store.description.classes} classes, and the data has {splits.shape.classes}."
        )
    store.check(examples=splits.train)
    stored, asked = store.description.views, config.data.augmentation
    if asked.mixup or (asked.shift, asked.flip) != ((stored.shift, stored.flip) if stored else (0, False)):
        there = f"views with shift {stored.shift}, flip {stored.flip}" if stored else "one view of each example"
        raise ConfigError(
            f"data.augmentation: the stored teacher was asked about {there}. Set the same, or build the store with cache.views."
        )
    first = splits.train.rows[:1]
    targets = store.look_up(first, None if stored is None else torch.zeros_like(first)).targets
    if targets is not None and targets.log_probs is not None:
        try:
            targets.at(_one_temperature(config))
        except ValueError as error:
            raise ConfigError(f"distillation.{error}") from None
    elif targets is not None and targets.drawn_at != _one_temperature(config):
        raise ConfigError(
            f"distillation.temperature: the store's draws were made at T = {targets.drawn_at:g} and serve no other."
        )
    return StoredTeacher(store)


def _one_temperature(config: Config) -> float:
    t = config.distillation.target_temperature
    if t is None:
        raise ConfigError(
            "distillation.temperature: the store keeps some classes at certain temperatures, and this changes T. Name one of "
            "those, or store dense logits."
        )
    return t


def save_student(student: nn.Module, folder: Path, config: Config, splits: Splits) -> None:
    """Write a run's ``student/``, with what it takes to feed it."""
    save_model(student, folder / STUDENT, spec_of(config.student), splits.shape)
    splits.inputs.save(folder / STUDENT)


def build_student(config: ModelConfig, splits: Splits, seed: int) -> nn.Module:
    """Build a model with weights that ``seed`` draws."""
    torch.manual_seed(seed)
    return build_model(spec_of(config), splits.shape, labels=splits.label_names, from_scratch=config.from_scratch)


def evaluate_models(models: dict[str, nn.Module], splits: Splits) -> dict[str, dict[str, float]]:
    """Size, speed and test metrics of each model; agreement where there is a teacher."""
    logits: dict[str, Tensor] = {
        name: predict_logits(model, splits.test, progress=f"Testing the {name}") for name, model in models.items()
    }
    results = {}
    for name, model in models.items():
        reference = logits.get("teacher") if name != "teacher" else None
        metrics = measure(logits[name], splits.test.labels, reference).as_dict()
        speed = milliseconds_per_batch(model, splits.test)
        results[name] = {"parameters": count_parameters(model), **metrics, "milliseconds_per_batch": speed}
    return results


def read_run(folder: Path) -> Config:
    """The config of a run folder.

    Raises:
        ConfigError: there is no finished run in it.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: no {CONFIG} here. Expected the folder of a run (the config's out:).")
    if not (folder / STUDENT / "inputs.json").is_file():
        raise ConfigError(
            f"{folder}: the run has no {STUDENT}/ yet. Finish it with: limbeck distill {folder / CONFIG} --resume"
        )
    return load_config(folder / CONFIG, training=False)


def open_run(config: Config, folder: Path, *, resume: bool = False) -> tuple[Splits, nn.Module | StoredTeacher | None]:
    """Check everything that can be checked before hours of training, then write the config into the run's folder.

    Returns:
        The examples, and the teacher where it need not be trained first.

    Raises:
        ConfigError, DataError, ModelError: a fault; nothing was written.
    """
    begun = check_folder(config, folder, resume=resume)
    splits = load_data(config.data, config.seed)
    build_student(config.student, splits, config.seed)
    arguments(config, folder)
    teacher = None
    if config.teacher.cache is not None:
        teacher = stored_teacher(config, splits)
    elif config.teacher.training is None:
        teacher = obtain_teacher(config, splits, folder)
    else:
        build_student(config.teacher, splits, config.seed)
        arguments(config, folder, training=config.teacher.training)
    if not begun and processes().is_main_process:
        write_config(config, folder / CONFIG)
    return splits, teacher


def check_folder(config: Config, folder: Path, *, resume: bool, ignoring: Sequence[str] = ()) -> bool:
    """Whether a run was begun in the folder.

    Raises:
        ConfigError: one was, and this is not to resume it, or is another one.
    """
    written = folder / CONFIG
    if written.is_file() and processes().is_main_process:
        if not resume:
            raise ConfigError(f"out: {folder} holds a run already. Name another folder, or go on with it: --resume")
        before, now = load_config(written, training=False).model_dump(), config.model_dump()
        changed = [key for key in now if now[key] != before[key] and key not in ignoring]
        if changed:
            raise ConfigError(
                f"{written}: the run was begun with other settings of {', '.join(changed)}; resume it with those."
            )
    return written.is_file()


def spec_of(config: ModelConfig) -> ModelSpec:
    """A config's model as the models room knows it."""
    return ModelSpec(config.model, config.settings)
