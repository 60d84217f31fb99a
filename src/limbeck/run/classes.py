"""Which column of a model is which class of the data: compared by name, and by the width of what the model returns."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from limbeck.config import Config
from limbeck.data import Splits
from limbeck.data.preprocessing import PREPROCESSING_FILE
from limbeck.errors import ArgumentError, ConfigError
from limbeck.models import SelectedColumns, class_names_in_config, forward_logits, saved_tokens, tokens_of
from limbeck.outputs import ClassNames, Vocabulary, align_classes, check_inputs
from limbeck.store import TeacherStore
from limbeck.tasks import task_named, task_of_data


def output_width(model: nn.Module, splits: Splits, key: str) -> int:
    """Return how many columns a model's logits have, by running it on one example.

    Args:
        model: the model; its mode is left as it is.
        splits: the examples.
        key: the config's key of the model, for messages.

    Raises:
        ConfigError: the model returns something else than one row of finite logits.
    """
    training = model.training
    with torch.no_grad():
        logits = forward_logits(model.eval(), splits.train.__getitems__([0]))
    model.train(training)
    if logits.dim() != 2 or len(logits) != 1:
        raise ConfigError(
            f"{key}: returned logits of shape {tuple(logits.shape)} for one example. Expected (1, {splits.shape.classes}): one "
            "row of logits for each example."
        )
    if not bool(logits.isfinite().all()):
        raise ConfigError(
            f"{key}: its logits of the first training example are not finite. Check its weights, its inputs (data.mean, "
            "data.std) and its dtype: float16 goes up to 65,504."
        )
    return logits.shape[-1]


def check_student(student: nn.Module, splits: Splits, key: str = "student.model") -> None:
    """Check that a model that is to be trained has one column for each class of the data, and reads its tokens.

    Args:
        student: the model.
        splits: the examples.
        key: the config's key of the model, for messages.

    Raises:
        ConfigError: it has another number of columns, or trained weights for other tokens.
    """
    check_tokens(student, splits, key)
    width, classes = output_width(student, splits, key), splits.shape.classes
    if width != classes:
        raise ConfigError(
            f"{key}: has {width} output columns, and the data has {classes} classes. Build it for {classes}: a function that "
            "takes an argument classes or num_classes is given the number; else set it in settings."
        )


def check_task(config: Config, splits: Splits, *, needs_softmax: str | None = None) -> None:
    """Check that the labels of the data are for the task that a config names, and that its teacher is made for it.

    Args:
        config: the run.
        splits: the examples.
        needs_softmax: the command that is run, if it knows nothing but one class for each example.

    Raises:
        ConfigError: they are for another task, or the command does not know it.
    """
    if config.task not in ("auto", splits.task):
        raise ConfigError(
            f"task: {config.task}, but the labels of the data are for {splits.task} (a list of classes for each example is for "
            "multi_label, one class for classification). Leave it out, or change data.label_column."
        )
    if needs_softmax is not None and task_named(splits.task).family != "softmax":
        raise ConfigError(
            f"task: limbeck {needs_softmax} knows one class for each example, and these data are {splits.task}."
        )


def class_names_of(model: nn.Module, folder: Path | None, key: str) -> ClassNames | None:
    """Return the names of a model's classes: those of its config, or of the ``inputs.json`` that a run wrote beside it.

    Args:
        model: the model.
        folder: where it was loaded from, if that is a folder.
        key: the config's key of the model, for messages.

    Returns:
        The names, or None if nothing tells them.

    Raises:
        ConfigError: ``inputs.json`` is broken.
        ArgumentError: a name stands for several classes.
    """
    path = None if folder is None else folder / PREPROCESSING_FILE
    if path is not None and path.is_file():
        try:
            return ClassNames(tuple(json.loads(path.read_text(encoding="utf-8"))["labels"]), str(path))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{key}: {path} cannot be read ({error}).") from None
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
        ConfigError: the teacher is made for another task, lacks a class of the data, or the meaning of its columns is not
            known and their number is another.
    """
    check_tokens(teacher, splits, key)
    width = output_width(teacher, splits, key)
    try:
        task_of_data(splits.task, teacher)
        columns = _columns(class_names_of(teacher, folder, key), width, key, splits)
    except ArgumentError as error:
        raise ConfigError(f"{key}: {error.message}") from None
    return teacher if columns is None else SelectedColumns(teacher, columns).eval()


def columns_in_store(store: TeacherStore, splits: Splits) -> tuple[int, ...] | None:
    """Return which column of a store stands for each class of the data, by name; ``splits.notes`` says if one has to move.

    Args:
        store: the open store.
        splits: the examples.

    Returns:
        One column for each class of the data, or None if no column has to move.

    Raises:
        ArgumentError: the store lacks a class of the data, or the names are not known and their number is another.
    """
    return _columns(store.class_names, store.description.classes, str(store.storage), splits)


def _columns(names: ClassNames | None, width: int, source: str, splits: Splits) -> tuple[int, ...] | None:
    if names is None or len(names) != width:
        names = ClassNames(tuple(f"LABEL_{i}" for i in range(width)), source)
    columns = align_classes(names, ClassNames(tuple(splits.label_names), "the data"))
    if columns is not None:
        unused = len(names) - len(columns)
        left_out = f" {unused} of its {len(names)} classes are not in the data and are left out." if unused else ""
        splits.notes.append(
            f"The teacher's classes stand in another order than the data's; they are matched by name.{left_out}"
        )
    return columns


def check_tokens(model: nn.Module, splits: Splits, key: str) -> None:
    """Check that a model with trained weights reads the token ids of the data as the tokens that they are.

    Args:
        model: the model. Its tokens are those of the tokenizer that is saved beside its weights, if there is one.
        splits: the examples.
        key: the config's key of the model, for messages.

    Raises:
        ConfigError: an id stands for another token, or for none.
    """
    ours = tokens_of(splits.train.tokenizer)
    theirs = None if ours is None else saved_tokens(model)
    if ours is None or theirs is None:
        return
    try:
        check_inputs(Vocabulary(theirs, 0, "the tokenizer saved with the model"), Vocabulary(ours, 0, "data.tokenizer"))
    except ArgumentError as error:
        raise ConfigError(f"{key}: {error.message} Name that tokenizer as data.tokenizer.") from None
