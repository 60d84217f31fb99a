"""What a run is going to do, in a few lines: examples, models, objective, steps, and what a step takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.config import Config
from limbeck.config.schema import DistillationConfig
from limbeck.data import MaskedTokens, Splits, TokenBlocks, TokenPairs
from limbeck.data.masked_tokens import SHARE
from limbeck.distributed import process_state
from limbeck.evaluation import rows_of
from limbeck.models import EstimatorModel, Retokenised, count_parameters, forward_logits
from limbeck.models.forward import underlying
from limbeck.run.first_batch import meet
from limbeck.run.inputs import notes_on_images
from limbeck.run.opening import OpenedRun
from limbeck.run.teacher import teacher_training_config
from limbeck.run.training import count_steps, training_arguments
from limbeck.store import StoredTeacher
from limbeck.tasks import Task, has_numbers, task_named
from limbeck.teachers import Ensemble, EnsembleModel, as_teacher
from limbeck.temperature.calibration import Calibration, calibrate

ASKED = 256
"""The most labelled examples on which a teacher is compared with chance."""
ASKED_OF_MANY = 32
"""The same where an example has several labels, such as those of its pixels."""
TIMED = 3
"""How many steps are timed. The first one is not counted."""


@dataclass(frozen=True)
class Plan:
    """What a run is going to do."""

    facts: dict[str, str]
    """Each fact by its name."""
    warnings: list[str] = field(default_factory=list)
    """What should make the user think again, in sentences."""


@dataclass(frozen=True)
class Cost:
    """What one optimiser step took."""

    seconds: float
    memory: int
    """The most bytes that were allocated on the accelerator; on a CPU, the most that the process has held."""
    device: str


def plan_of(config: Config, opened: OpenedRun, folder: Path, *, measure: bool = False) -> Plan:
    """Describe what a run is going to do.

    Args:
        config: the run.
        opened: its examples and models, which passed all checks.
        folder: the run's folder.
        measure: time a few steps of each training on one batch, to estimate how long the run takes.

    Returns:
        The facts, and the warnings about the teacher.
    """
    splits, objective = opened.splits, config.distillation
    steps = count_steps(config, splits.train)
    facts = {
        "data": _describe_data(config, splits),
        "teacher": _describe_teacher(config, opened),
        "student": f"{config.student.model}, {count_parameters(opened.student):,} parameters",
        "objective": describe_objective(objective, task_named(splits.task)),
        "training": f"{steps:,} steps of {_batch(config)} examples",
    }
    warnings = notes_on_images(opened.student, splits, "student.model")
    if opened.untrained is not None:
        warnings += notes_on_images(opened.untrained, splits, "teacher.model")
    if opened.teacher is not None:
        found = measure_teacher(opened.teacher, splits)
        if found is not None:
            unit = task_named(splits.task).unit
            facts["teacher"] += f", right on {100 * found.accuracy:.1f} % of {found.examples} labelled {unit}s"
            warnings += teacher_warnings(found, unit)
    if measure:
        facts |= _estimate(config, opened, folder, steps)
    return Plan(facts, warnings)


def measure_teacher(teacher: nn.Module | StoredTeacher, splits: Splits) -> Calibration | None:
    """Compare a teacher with chance on a few hundred labelled examples.

    Args:
        teacher: a model is asked about validation examples, a store is looked up for training examples.
        splits: the examples.

    Returns:
        What was measured; None if there is nothing to measure it on, as a store of draws, or if its outputs are no choice
        among classes.
    """
    task = task_named(splits.task)
    if task.family != "softmax" or isinstance(teacher, Retokenised):
        return None
    if isinstance(teacher, nn.Module):
        most = ASKED if task.unit == "example" else ASKED_OF_MANY
        some = splits.validation.subset(_spread(splits.validation.labelled.nonzero().squeeze(-1), most))
        return calibrate(*rows_of(teacher, some)) if len(some) else None
    if task.unit != "example":
        return None
    some = splits.train.subset(_spread(splits.labelled.nonzero().squeeze(-1)))
    output = teacher.store.look_up(some.ids, None if teacher.views is None else torch.zeros_like(some.ids))
    logits, targets = output.logits, output.targets
    if targets is not None and targets.log_probs is not None:
        absent = torch.full((len(some), splits.shape.classes), -torch.inf)
        logits = absent.scatter(-1, targets.ids, targets.log_probs.float())
    return None if logits is None or not len(some) else calibrate(logits.float(), some.labels)


def teacher_warnings(found: Calibration, unit: str = "example") -> list[str]:
    """Say that a teacher knows nothing, or little.

    Args:
        found: what was measured of it.
        unit: what has a label, as tasks name it.

    Returns:
        One sentence, or none.
    """
    if found.nothing_to_teach:
        return [found.nothing_to_teach.replace(" labelled examples", f" labelled {unit}s")]
    if unit == "token":  # the best language model is often wrong about the next token
        return []
    told = found.against_chance.replace(" labelled examples", f" labelled {unit}s")
    if found.label_classes > 1 and found.accuracy - found.chance_accuracy < 0.5 * (1 - found.chance_accuracy):
        return [f"{told}: it has little to teach. Compare with a student of the labels alone: limbeck compare."]
    return []


def measure_step(config: Config, splits: Splits, student: nn.Module, teacher: Any, folder: Path) -> Cost:
    """Time an optimiser step on the training device. The student is trained by it.

    Args:
        config: the training whose arguments count.
        splits: the examples.
        student: the model that is trained.
        teacher: its teacher; None for a training on labels alone.
        folder: the run's folder.

    Returns:
        The shortest time of two steps, and the memory.
    """
    arguments, device = training_arguments(config, folder), torch.device(process_state().device or "cpu")
    rows = arguments.per_device_train_batch_size
    batch = splits.train.__getitems__([i % len(splits.train) for i in range(rows)])
    source = None if teacher is None else as_teacher(teacher).to(device)
    if isinstance(source, Ensemble):
        source.at_temperature(config.distillation.target_temperature)
    if isinstance(teacher, StoredTeacher) and teacher.views is not None:
        batch = teacher.views(batch)
    elif config.data.augmentation.is_on and not isinstance(teacher, StoredTeacher):
        batch = config.data.augmentation(batch)
    batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    task = task_named(splits.task)
    batch = task.complete(batch, [student])
    objective = arguments.objective(task.family).to(device)
    if teacher is None:  # a training on labels alone has one for each example
        batch["labels"] = torch.where(batch["labels"] < 0, 0, batch["labels"]).nan_to_num()
    optimizer = torch.optim.AdamW(student.to(device).train().parameters(), lr=0.0)
    times = []
    with torch.random.fork_rng():
        for _ in range(TIMED):
            start = time.perf_counter()
            for _ in range(arguments.gradient_accumulation_steps):
                logits, targets = forward_logits(student, batch), None
                if source is not None:
                    output = source(batch)
                    targets = output.logits if output.targets is None else output.targets
                is_shared = arguments.alignment is None
                logits, targets, of_batch = meet(task, logits, targets, batch, shared=is_shared)
                objective(logits, targets, of_batch.labels, mask=of_batch.mask).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    return Cost(min(times[1:]), _peak_memory(device), str(device))


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _estimate(config: Config, opened: OpenedRun, folder: Path, steps: int) -> dict[str, str]:
    """Return the estimated time and memory of a run, after timing its trainings on one batch."""
    seconds, terms = 0.0, []
    alone = {"distillation": config.distillation.model_copy(update={"alpha": 0.0})}
    if opened.untrained is not None:
        own = teacher_training_config(config).model_copy(update=alone)
        cost, count = (
            measure_step(own, opened.splits, opened.untrained, None, folder),
            count_steps(own, opened.splits.train),
        )
        seconds += count * cost.seconds
        terms.append(f"{count:,} steps of the teacher at {1000 * cost.seconds:.3g} ms")
    teacher = opened.teacher or opened.untrained
    if config.distillation.alpha == 0:
        teacher, config = None, config.model_copy(update=alone)
    cost = measure_step(config, opened.splits, opened.student, teacher, folder)
    seconds += steps * cost.seconds
    terms.append(f"{steps:,} steps of the student at {1000 * cost.seconds:.3g} ms")
    what = "allocated on it" if cost.device.startswith("cuda") else "held by the process"
    return {
        "time": f"about {_duration(seconds)} on {cost.device}: {' and '.join(terms)}, estimated from one batch, without "
        "reading and evaluation",
        "memory": f"{cost.memory / 1e6:,.0f} MB {what} at the peak of these steps",
    }


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _describe_data(config: Config, splits: Splits) -> str:
    labelled, shape = int(splits.labelled.sum()), splits.shape
    inputs = "texts" if shape.image is None else "images of " + " x ".join(map(str, shape.image))
    if (table := splits.preprocessing.table) is not None:
        inputs = f"rows of {len(table.numbers)} numbers and {len(table.categories)} categories"
    known = "all labelled" if labelled == len(splits.train) else f"{labelled:,} labelled"
    if task_named(splits.task).unit == "token":
        return _describe_tokens(config, splits)
    outputs = f"{shape.classes} classes"
    if splits.task == "regression":
        outputs = f"numbers: {', '.join(splits.label_names)}"
    elif not task_named(splits.task).has_labels:
        known, outputs = "without labels", "embeddings"
    test = "" if splits.has_test_labels else " without labels"
    return (
        f"{config.data.name}: {len(splits.train):,} for training ({known}), {len(splits.validation):,} for validation, "
        f"{len(splits.test):,} for testing{test}; {inputs}, {outputs}"
    )


def describe_objective(objective: DistillationConfig, task: Task, temperatures: Sequence[float] | None = None) -> str:
    """Describe an objective by the settings that have an effect.

    Args:
        objective: its settings.
        task: the run's task.
        temperatures: those of several students; None for the objective's own.

    Returns:
        The words, without a full stop.
    """
    if has_numbers(task):
        alpha = f"alpha = {objective.alpha:g}" if task.has_labels else "alpha = 1, since embeddings have no labels"
        return f"{objective.distance or 'mse'} between outputs, without a temperature; {alpha}"
    t = _told(objective.temperature) if temperatures is None else " or ".join(map(_told, temperatures))
    parts = [f"T = {t}", f"alpha = {objective.alpha:g}", _told(objective.divergence)]
    if objective.teacher_temperature is not None:
        parts.insert(1, f"{objective.teacher_temperature:g} for the teacher")
    if objective.divergence == "jsd":
        parts.append(f"beta = {objective.beta:g}")
    if objective.divergence in ("skew_kl", "skew_reverse_kl"):
        parts.append(f"skew = {objective.skew:g}")
    if objective.alignment is not None:
        parts[-1] = "uld between sorted probabilities"
    if objective.compensate is not True:
        parts.append(f"compensate = {'curvature' if objective.compensate else 'false'}")
    return ", ".join(parts)


def _describe_tokens(config: Config, splits: Splits) -> str:
    parts = {"training": splits.train, "validation": splits.validation, "testing": splits.test}
    told = (
        f"{len(part):,} sequences with {int(cast(TokenBlocks, part.load).counted.sum()):,} tokens for {use}"
        for use, part in parts.items()
    )
    kinds = {
        TokenBlocks: f"blocks of {config.data.max_length}",
        MaskedTokens: f"{100 * SHARE:.0f} % of them are masked",
        TokenPairs: "targets of a source each",
    }
    kept, cut = getattr(splits.test.load, "kept", None), ""
    if kept is not None:
        outside = cast(TokenBlocks, splits.test.load).outside
        cut = f"; the student knows {len(kept.kept):,} tokens, {100 * outside:.1f} % of those for testing are others"
    return f"{config.data.name}: {', '.join(told)}; {kinds.get(type(splits.train.load), 'one document each')}{cut}"


def _describe_teacher(config: Config, opened: OpenedRun) -> str:
    if isinstance(opened.teacher, StoredTeacher):
        return f"stored in {config.teacher.cache}"
    model = opened.teacher or opened.untrained
    assert model is not None
    if isinstance(inside := underlying(model), EstimatorModel):
        return f"{inside.name} in {config.teacher.sklearn}"
    known = model.classes if isinstance(model, EnsembleModel) else [None]
    total = opened.splits.shape.classes
    names = " and ".join(
        named.name if classes is None else f"{named.name}, a specialist in {len(classes)} of {total} classes"
        for named, classes in zip(config.teacher.models, known, strict=True)
    )
    count = count_parameters(model)  # an ONNX file, or a function of one's own, may have none
    text = f"{names}, {count:,} parameters" if count else names
    if opened.untrained is not None:
        own = teacher_training_config(config)
        text += f", trained first: {count_steps(own, opened.splits.train):,} steps of {_batch(own)} examples"
    return text


def _batch(config: Config) -> int:
    settings: dict[str, Any] = config.training
    return settings.get("per_device_train_batch_size", 8) * settings.get("gradient_accumulation_steps", 1)


def _told(value: Any) -> str:
    """Return a number, a name or the settings of a policy or divergence as a config has them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {item}" for name, item in value.items()) + "}"
    return value if isinstance(value, str) else f"{value:g}"


def _spread(indices: Tensor, most: int = ASKED) -> Tensor:
    """Return at most so many of some indices, spread evenly over all of them."""
    return indices[torch.linspace(0, len(indices) - 1, min(most, len(indices))).round().long()]
