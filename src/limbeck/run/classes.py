"""Which column of a teacher is which class of the data: compared by name, or by their number where there are no names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.config import Config
from limbeck.data import NumberFormat, Splits
from limbeck.errors import ArgumentError, ConfigError
from limbeck.models import (
    EstimatorModel,
    RescaledOutputs,
    SelectedColumns,
    class_names_in_config,
    saved_tokens,
    tokens_of,
)
from limbeck.models.forward import underlying
from limbeck.outputs import ClassNames, Vocabulary, align_classes, check_inputs, specialist_columns
from limbeck.outputs.classes import listed
from limbeck.run.faults import Faults
from limbeck.run.first_batch import check_outputs
from limbeck.run.inputs import SavedInputs, check_images, check_table, notes_on_images, read_inputs
from limbeck.run.language import check_language_model
from limbeck.store import TeacherStore
from limbeck.tasks import has_numbers, task_named, task_of_data


def check_student(student: nn.Module, splits: Splits, key: str = "student.model") -> None:
    """Check that a model that is to be trained gives one column of logits for each class of the data, and reads its tokens.

    Args:
        student: the model.
        splits: the examples.
        key: the config's key of the model, for messages.

    Raises:
        ConfigError: it does not; one line for each fault.
    """
    faults = Faults()
    with faults.under(key):
        check_tokens(student, splits.train.tokenizer, key)
    with faults.under(key):
        splits.notes.extend(notes_on_images(student, splits, key))
        has_columns = task_named(splits.task).has_labels and splits.shape.classes > 0
        check_outputs(student, splits, key, columns=splits.shape.classes if has_columns else None)
        if task_named(splits.task).unit == "token":
            check_language_model(student, splits, key)
    if not any(parameter.requires_grad for parameter in student.parameters()):
        faults.lines.append(f"{key}: has no weights that can be trained. Do not freeze all of them.")
    faults.raise_all()


def check_task(
    config: Config,
    splits: Splits,
    *,
    builds_store: bool = False,
    needs_softmax: str | None = None,
    needs_temperature: bool = False,
) -> None:
    """Check that the labels of the data are for the task that a config names, and that its teacher is made for it.

    Args:
        config: the run.
        splits: the examples.
        builds_store: the command keeps what the teacher says.
        needs_softmax: the command that is run, if it knows nothing but one class out of all.
        needs_temperature: the command looks for a temperature.

    Raises:
        ConfigError: they are for another task, or the command does not know it.
    """
    if config.task not in ("auto", splits.task):
        raise ConfigError(
            f"task: {config.task}, but the labels of the data are for {splits.task} (one class is for classification, a "
            "list of classes for multi_label, a number for regression, a mask for dense_prediction, a tag for each word for "
            "token_classification). Leave it out, or change data.label_column."
        )
    if needs_temperature and has_numbers(task_named(splits.task)):
        raise ConfigError(f"task: {splits.task} has no softmax, so there is no temperature to search. Leave it out.")
    unit = task_named(splits.task).unit
    if unit == "token":
        _check_store(config, splits, builds_store=builds_store)
    elif unit != "example":
        _check_positions(config, splits.task, unit)
    if needs_softmax is not None and task_named(splits.task).family != "softmax":
        raise ConfigError(
            f"task: limbeck {needs_softmax} knows one class out of all, and these data are {splits.task}."
        )


def _check_store(config: Config, splits: Splits, *, builds_store: bool) -> None:
    """Refuse a store of what a teacher said about tokens where training asks about others."""
    if splits.train.drawn_anew() is splits.train:
        return
    why = f"and {splits.task} masks other tokens each time, about which the teacher must be asked again"
    if builds_store:
        raise ConfigError(
            f"task: limbeck cache build keeps one answer for each token of a text, {why}. Train without it."
        )
    if config.teacher.cache is not None:
        raise ConfigError(f"teacher.cache: a store keeps one answer for each token of a text, {why}. Name a model.")


def _check_positions(config: Config, task: str, unit: str) -> None:
    """Refuse what is not there for examples with a label for each pixel or token."""
    faults, each = [], f"and {task} has a label for each {unit}"
    for section, augmentation in (("data", config.data.augmentation), ("teacher", config.teacher.augmentation)):
        if augmentation is not None and augmentation.mixes:
            name = "mixup" if augmentation.mixup else "cutmix"
            faults.append(f"{section}.augmentation.{name}: mixes images with one answer, {each}. Leave it out.")
    if faults:
        raise ConfigError(*faults)


def class_names_of(model: nn.Module, saved: SavedInputs | None, key: str) -> ClassNames | None:
    """Return the names of a model's classes: those of its config, or of the ``inputs.json`` that a run wrote beside it.

    Args:
        model: the model.
        saved: what ``inputs.json`` says, if there is one.
        key: the config's key of the model, for messages.

    Returns:
        The names, or None if nothing tells them.

    Raises:
        ArgumentError: a name stands for several classes.
    """
    if saved is not None:
        return ClassNames(saved.labels, saved.path)
    return class_names_in_config(model, f"the config of {key}")


def in_order_of_data(teacher: nn.Module, folder: Path | None, splits: Splits, key: str = "teacher.model") -> nn.Module:
    """Return a teacher whose columns are the classes of the data, in the data's order.

    Classes are matched by name. A teacher that knows more classes is cut to those of the data; ``splits.notes`` says so.
    Where either side has no names, nothing but the number of classes is compared.

    Args:
        teacher: the trained model.
        folder: where it was loaded from, if that is a folder.
        splits: the examples.
        key: the config's key of the model, for messages.

    Returns:
        The teacher itself, or a ``SelectedColumns`` around it.

    Raises:
        ConfigError: the teacher is made for another task, lacks a class of the data, the meaning of its columns is not known
            and their number is another, it was trained on other images, rows or tokens, or its outputs are no logits; one
            line for each.
    """
    return _arranged(teacher, folder, splits, key, specialists=False)[0]


def member_of_ensemble(
    teacher: nn.Module, folder: Path | None, splits: Splits, key: str
) -> tuple[nn.Module, tuple[int, ...] | None]:
    """Return one teacher of several, which may be a specialist that knows a part of the data's classes.

    Args:
        teacher: the trained model.
        folder: as in ``in_order_of_data``, and so are the others; ``splits.notes`` says if it is a specialist.
        splits: the examples.
        key: the config's key of the model.

    Returns:
        As in ``in_order_of_data``, and the numbers of the classes that it knows; None if it knows all.

    Raises:
        ConfigError: as in ``in_order_of_data``.
    """
    return _arranged(teacher, folder, splits, key, specialists=True)


def _arranged(
    teacher: nn.Module, folder: Path | None, splits: Splits, key: str, *, specialists: bool
) -> tuple[nn.Module, tuple[int, ...] | None]:
    """Return a teacher with its columns in order, and the classes that it knows if it is a specialist and may be one."""
    faults, columns, saved, known = Faults(), None, None, None
    with faults.under(key):
        saved = read_inputs(folder)
        check_images(teacher, saved, splits)
    with faults.under(key):
        check_table(saved, splits)
    with faults.under(key):
        check_tokens(teacher, splits.train.tokenizer, key)
    with faults.under(key):
        width = check_outputs(teacher, splits, key)
        try:
            task = task_of_data(splits.task, teacher)
            if not task.has_labels:
                return teacher, None
            is_language = task.unit == "token"  # tokens are compared by their ids
            names, found = None if is_language else class_names_of(teacher, saved, key), None
            if specialists and names and not has_numbers(task):
                found = specialist_columns(names, ClassNames(tuple(splits.label_names)))
            if is_language:
                check_language_model(teacher, splits, key)
            elif found is None:
                columns = _columns(names, width, key, splits)
            else:
                columns, known = found
                splits.notes.append(_told(key, known, width, splits))
        except ArgumentError as error:
            raise ConfigError(f"{key}: {error.message}") from None
    faults.raise_all()
    if splits.preprocessing.target is not None:
        return _in_unit_of_data(teacher, saved, splits.preprocessing.target, columns), known
    if columns is None and isinstance(teacher, EstimatorModel):
        columns = range(width)  # says that its classes are those of the data, which have no other place there
    return (teacher if columns is None else SelectedColumns(teacher, columns).eval()), known


def _told(key: str, known: tuple[int, ...], width: int, splits: Splits) -> str:
    """Return the sentence about a specialist."""
    dustbin = " Its class for everything else is left out." if width > len(known) else ""
    names = listed([splits.label_names[i] for i in known])
    return f"{key} is a specialist: it knows {len(known)} of the {splits.shape.classes} classes ({names}).{dustbin}"


def _in_unit_of_data(
    teacher: nn.Module, saved: SavedInputs | None, ours: NumberFormat, columns: Sequence[int] | None
) -> nn.Module:
    """Return a teacher whose numbers are standardised as the labels of the data are.

    Without an ``inputs.json`` that says otherwise, its numbers have the unit of the labels themselves.
    """
    count = len(ours.mean)
    theirs = NumberFormat([0.0] * count, [1.0] * count) if saved is None or saved.target is None else saved.target
    if columns is not None:
        theirs = NumberFormat([theirs.mean[i] for i in columns], [theirs.std[i] for i in columns])
        teacher = SelectedColumns(teacher, columns)
    if theirs == ours:
        return teacher.eval()
    scale = [a / b for a, b in zip(theirs.std, ours.std, strict=True)]
    shift = [(a - b) / c for a, b, c in zip(theirs.mean, ours.mean, ours.std, strict=True)]
    return RescaledOutputs(teacher, scale, shift).eval()


def columns_in_store(store: TeacherStore, splits: Splits) -> tuple[int, ...] | None:
    """Return which column of a store stands for each class of the data, by name; ``splits.notes`` says if one has to move.

    Args:
        store: the open store.
        splits: the examples.

    Returns:
        One column for each class of the data, or None if no column has to move. Of numbers always the columns: a store keeps
        their names with the unit, and a student's config does not.

    Raises:
        ArgumentError: the store lacks a class of the data, or the names are not known and their number is another.
    """
    task = task_named(splits.task)
    if not task.has_labels or task.unit == "token":  # tokens are compared by their ids, in training
        return None
    classes = store.description.classes
    columns = _columns(store.class_names, classes, str(store.storage), splits, splits.output_names)
    return tuple(range(classes)) if columns is None and splits.preprocessing.target is not None else columns


def _columns(
    names: ClassNames | None, width: int, source: str, splits: Splits, ours: Sequence[str] | None = None
) -> tuple[int, ...] | None:
    if names is None or len(names) != width:
        names = ClassNames(tuple(f"LABEL_{i}" for i in range(width)), source)
    columns = align_classes(names, ClassNames(tuple(splits.label_names if ours is None else ours), "the data"))
    if columns is not None:
        unused = len(names) - len(columns)
        left_out = f" {unused} of its {len(names)} classes are not in the data and are left out." if unused else ""
        splits.notes.append(
            f"The teacher's classes stand in another order than the data's; they are matched by name.{left_out}"
        )
    return columns


def check_tokens(model: nn.Module, tokenizer: Any, key: str) -> None:
    """Check that a model with trained weights reads the token ids of the data as the tokens that they are.

    Args:
        model: the model. Its tokens are those of the tokenizer that is saved beside its weights, if there is one.
        tokenizer: that of the data; None where there is none.
        key: the config's key of the model, for messages.

    Raises:
        ConfigError: an id stands for another token, or for none.
    """
    ours = tokens_of(tokenizer)
    theirs = None if ours is None else saved_tokens(underlying(model))
    if ours is None or theirs is None:
        return
    try:
        check_inputs(Vocabulary(theirs, 0, "the tokenizer saved with the model"), Vocabulary(ours, 0, "data.tokenizer"))
    except ArgumentError as error:
        raise ConfigError(f"{key}: {error.message} Name that tokenizer as data.tokenizer.") from None
