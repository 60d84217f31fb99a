"""The teacher of a training run: what a user passes becomes a ``Teacher`` that fits the student and the augmentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.errors import ArgumentError
from limbeck.models import (
    EstimatorModel,
    LogProbabilities,
    OnnxModel,
    Retokenised,
    SelectedColumns,
    class_names_in_config,
    is_estimator,
    load_estimator,
    load_model,
    saved_tokenizer,
)
from limbeck.models.forward import underlying
from limbeck.outputs import align_classes
from limbeck.store import StoredTeacher, is_store
from limbeck.tasks import Task, has_numbers
from limbeck.teachers import Ensemble, Teacher, TeacherLike, as_teacher
from limbeck.teachers.live import LiveTeacher, check_numbered, check_separate
from limbeck.training.arguments import DistillationArguments

Augment = Callable[[dict[str, Any]], dict[str, Any]]
"""Maps a batch to the batch that both models see."""

DTYPES = {None: None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_teacher(
    teacher: TeacherLike | str | Path | None, student: nn.Module | None, args: DistillationArguments
) -> Teacher | None:
    """Return the teacher that a trainer's argument stands for.

    Args:
        teacher: a module, a ``Teacher``, a fitted estimator of scikit-learn or any callable; the name or folder of a model; a
            file that ``skops.io.dump`` wrote; an ONNX file; the folder or URL of a store; or None, if ``args.alpha`` is 0.
        student: the model that is trained.
        args: the run's settings, of which ``alpha``, ``teacher_dtype`` and ``teacher_outputs`` are read.

    Returns:
        The teacher, not moved to a device; None for training on labels alone.

    Raises:
        ArgumentError: a teacher is missing, shares parameters with the student or lacks a class of it; or ``teacher_dtype`` or
            ``teacher_outputs`` is not known or does not fit the teacher.
        ArgumentTypeError: ``teacher`` is none of these.
    """
    if teacher is None:
        check_teacher_given(None, args)
        return None
    if isinstance(teacher, str | Path):
        if Path(teacher).suffix == ".skops":
            teacher = load_estimator(teacher)
        elif Path(teacher).suffix == ".onnx":
            teacher = OnnxModel(teacher, args.teacher_outputs)
        else:
            teacher = StoredTeacher(teacher) if is_store(teacher) else load_model(teacher)
    if student is not None:
        check_separate(teacher, student)
    if is_estimator(teacher):
        teacher = EstimatorModel(teacher)
    outputs: Any = args.teacher_outputs
    if isinstance(teacher, StoredTeacher | EstimatorModel):  # these give logits, or the logarithms of probabilities
        outputs = "logits"
    if isinstance(teacher, nn.Module) and outputs == "probabilities":
        teacher, outputs = LogProbabilities(teacher), "logits"
    if isinstance(teacher, nn.Module | StoredTeacher) and student is not None:
        teacher = match_classes(teacher, student)
    if isinstance(teacher, nn.Module) and args.teacher_dtype not in DTYPES:
        raise ArgumentError(
            "teacher_dtype", f"expected 'float32', 'bfloat16' or 'float16', got {args.teacher_dtype!r}."
        )
    return as_teacher(teacher, dtype=DTYPES.get(args.teacher_dtype), outputs=outputs)


def check_runs_one_model(teacher: Teacher, argument: str) -> None:
    """Check that a teacher is one model that runs beside the student.

    Args:
        teacher: any teacher.
        argument: what needs it, for the message.

    Raises:
        ArgumentError: it is another.
    """
    if type(teacher) is not LiveTeacher:
        raise ArgumentError(
            argument,
            f"needs one model that is run beside the student, got {type(teacher).__name__}: a store or an average keeps "
            "no layers, and what was said about the student's tokens alone. Pass the model, or leave this out.",
        )


def reading_own_tokens(teacher: Teacher, of_data: Any, own: Any = None) -> LiveTeacher:
    """Return a language model as a teacher that reads the text of a batch with its own tokenizer.

    Args:
        teacher: the teacher, which is one live model.
        of_data: the tokenizer of the data, which is the student's.
        own: the teacher's; None for the one that is saved beside its weights.

    Returns:
        The teacher, whose model is a ``Retokenised``.

    Raises:
        ArgumentError: it is no such teacher, or a tokenizer is not known.
    """
    check_runs_one_model(teacher, "alignment")
    assert isinstance(teacher, LiveTeacher)
    if isinstance(teacher.model, Retokenised):
        return teacher
    own = saved_tokenizer(teacher.model) if own is None else own
    for argument, tokenizer in (("processing_class", of_data), ("teacher_tokenizer", own)):
        if tokenizer is None:
            raise ArgumentError(
                argument, "alignment='uld' writes the text of a batch anew with both tokenizers. Pass this one."
            )
    return LiveTeacher(Retokenised(teacher.model, own, of_data))


def check_teacher_given(teacher: Teacher | None, args: DistillationArguments) -> None:
    """Check that there is a teacher if the loss has a soft term.

    Args:
        teacher: the teacher of the run.
        args: the run's settings, of which ``alpha`` is read.

    Raises:
        ArgumentError: there is none.
    """
    if teacher is None and args.alpha > 0:
        raise ArgumentError(
            "teacher",
            f"needed for the soft term when alpha = {args.alpha}. Pass one, or alpha=0 to train without.",
        )


def check_teacher_fits(teacher: Teacher | None, task: Task, args: DistillationArguments) -> None:
    """Check that a teacher gives what a task's loss compares: the logits of classes, or numbers.

    Args:
        teacher: the teacher of the run; None for none.
        task: how outputs meet labels.
        args: the run's settings, of which ``teacher_outputs`` is read.

    Raises:
        ArgumentError: it gives something else, or probabilities of one class out of all, which only a softmax has.
    """
    if teacher is None:
        return
    are_numbers = has_numbers(task)
    for model in map(underlying, teacher.models):
        if isinstance(model, EstimatorModel) and (model.is_regressor != are_numbers or task.family == "sigmoid"):
            gives = "numbers" if model.is_regressor else "probabilities of one class out of all"
            raise ArgumentError("teacher", f"{model.name} gives {gives}, and task={task.name!r} learns others.")
    if task.family == "softmax":
        return
    if isinstance(teacher, Ensemble) and teacher.average == "probabilities":
        raise ArgumentError(
            "teacher",
            f"averages probabilities of one class each, which task={task.name!r} lacks. Set average='logits'.",
        )
    if are_numbers and args.teacher_outputs == "probabilities":
        raise ArgumentError("teacher_outputs", f"task={task.name!r} learns numbers. Leave it out.")
    if args.teacher_outputs == "probabilities" and not isinstance(teacher, StoredTeacher):
        raise ArgumentError(
            "teacher_outputs",
            f"these are probabilities of one class out of all, which task={task.name!r} lacks. Leave it out, and pass "
            "limbeck.models.LogProbabilities(model, 'sigmoid') as the teacher.",
        )


def match_classes(teacher: nn.Module | StoredTeacher, student: nn.Module) -> nn.Module | StoredTeacher:
    """Return a teacher whose columns stand for the student's classes, in the student's order.

    Classes are compared by the names in both models' configs (``id2label``) or in the store, where both have names that mean
    something.

    Args:
        teacher: the teacher.
        student: the model that is trained.

    Returns:
        The teacher itself, or one with its columns in that order. A stored teacher that was given the order is left as it is.

    Raises:
        ArgumentError: the student has a class that the teacher lacks.
    """
    is_stored = isinstance(teacher, StoredTeacher)
    if is_stored and teacher.is_in_order:
        return teacher
    theirs = teacher.store.class_names if is_stored else class_names_in_config(teacher, "the teacher's config")
    ours = class_names_in_config(student, "the student's config")
    if theirs is None or ours is None or not (theirs.are_known and ours.are_known):
        if not is_stored:
            check_numbered(teacher)
        return teacher
    try:
        columns = align_classes(theirs, ours)
        if columns is None:
            return teacher
        return StoredTeacher(teacher.store, columns) if is_stored else SelectedColumns(teacher, columns)
    except ArgumentError as error:
        raise ArgumentError("teacher", error.message) from None


def choose_augmentation(augment: Augment | None, teacher: Teacher | None) -> Augment | None:
    """Return the augmentation under which a teacher's targets belong to what the student sees.

    Args:
        augment: the augmentation that the user asks for; None for none.
        teacher: the run's teacher.

    Returns:
        ``augment``; or the views of a store that holds several for each example.

    Raises:
        ArgumentError: the teacher knows one view of each example, or other views than ``augment`` would show.
    """
    if augment is not None and teacher is not None and teacher.single_view:
        raise ArgumentError(
            "augment",
            "this teacher was asked before about one view of each example, and the student would see another. "
            "Train without augmentation, with a store of several views, or with the teacher itself.",
        )
    if not isinstance(teacher, StoredTeacher) or teacher.views is None:
        return augment
    if augment not in (None, teacher.views):
        raise ArgumentError(
            "augment", f"the stored teacher was asked about {teacher.views}. Leave it out, or give that."
        )
    return teacher.views
