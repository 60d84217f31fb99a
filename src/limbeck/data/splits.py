"""Training, validation and test examples kept apart, and labels hidden to make a transfer set."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import torch
from torch import Tensor

from limbeck.data.config import DataConfig
from limbeck.data.examples import Examples, Source, Splits, missing_label
from limbeck.data.numbers import standardise_numbers
from limbeck.data.sources import read_source
from limbeck.data.table_columns import standardise
from limbeck.errors import ArgumentError, DataError

HELD_OUT_SIZES = {"digits": {"validation": 300, "test": 400}, "fashion-mnist": {"validation": 5_000}}
"""How many training examples become the validation and test set that a built-in data set lacks."""
HELD_OUT_FRACTION = 0.1
"""The fraction of the training examples that becomes a validation or test set which another data set lacks."""


def load_splits(config: DataConfig, *, seed: int = 0, task: str = "auto") -> Splits:
    """Read a data set, split it, and hide the labels that are not known.

    Args:
        config: which data set, how to read it, and how many of its labels are known.
        seed: draws which labels are known. The split into training, validation and test does not depend on it.
        task: what the labels are for: the name of one of ``limbeck.tasks.TASKS``, or "auto" to see it by the labels.

    Returns:
        The training, validation and test examples.

    Raises:
        DataError: the data set cannot be read, or has fewer examples than labels that should be known.
    """
    source = read_source(config, task)
    train, validation, test = _complete(source, config.name)
    splits = Splits(train, validation, test, source.shape, source.preprocessing, train.labels, source.notes)
    splits = standardise_numbers(standardise(splits))
    return hide_labels(splits, config.labelled, transfer=config.transfer == "all", seed=seed)


def hide_labels(splits: Splits, labelled: float | None, *, transfer: bool = True, seed: int = 0) -> Splits:
    """Hide all but some of the true labels of the training examples.

    Args:
        splits: the examples. Labels that were hidden before are known again first.
        labelled: how many labels stay known: a whole number, or a fraction below 1; None for all of them. They are drawn
            class by class.
        transfer: keep the examples without a label, as a transfer set; if False, they are left out.
        seed: draws which labels stay known.

    Returns:
        Splits with other training examples; validation and test are the same.

    Raises:
        ArgumentError: ``labelled`` is not positive, or neither a whole number nor a fraction below 1.
        DataError: there are fewer examples than that, or fewer labels than classes.
    """
    train = splits.train.with_labels(splits.true_labels)
    known = train.labelled.nonzero().squeeze(-1)
    if labelled is not None:
        known, _ = _draw_by_class(train, _label_count(labelled, len(known)), seed, "data.labelled")
    if not transfer and not len(known):
        raise DataError("data.transfer: none of the training examples has a label, so none would be left.")
    if not transfer:
        known = known.sort().values
        train, true_labels = train.subset(known), splits.true_labels[known]
    else:
        labels = torch.full_like(splits.true_labels, missing_label(splits.task))
        labels[known] = splits.true_labels[known]
        train, true_labels = train.with_labels(labels), splits.true_labels
    return dataclasses.replace(splits, train=train, true_labels=true_labels)


def _label_count(labelled: float, examples: int) -> int:
    if not labelled > 0 or (labelled > 1 and labelled % 1 != 0):
        raise ArgumentError("labelled", f"expected a positive whole number, or a fraction below 1, got {labelled!r}.")
    return int(labelled) if labelled >= 1 else round(labelled * examples)


def _complete(source: Source, name: str) -> tuple[Examples, Examples, Examples]:
    """Return training, validation and test; what the source lacks is drawn from training, always the same, and noted."""
    splits = _without_unlabelled(source)
    total = int(splits["train"].labelled.sum())
    for split in ("test", "validation"):
        if split not in splits:
            size = HELD_OUT_SIZES.get(name, {}).get(split) or max(1, round(HELD_OUT_FRACTION * total))
            if source.groups is None:
                held_out, rest = _draw_by_class(splits["train"], size, 0, f"data.{split}")
                how = "drawn by class" if splits["train"].labels.dim() == 1 else "drawn at random"
            else:
                groups = source.groups[splits["train"].ids]
                held_out, rest = _draw_groups(splits["train"], groups, size, split)
                how = "all labelled ones of some groups"
            left_out = len(splits["train"]) - len(held_out) - len(rest)
            splits[split], splits["train"] = splits["train"].subset(held_out), splits["train"].subset(rest)
            source.notes.append(f"{len(held_out)} of the training examples, {how}, are the {split} set.")
            if left_out:
                source.notes.append(f"{left_out} examples without a label belong to the same groups and are left out.")
    return splits["train"], splits["validation"], splits["test"]


def _without_unlabelled(source: Source) -> dict[str, Examples]:
    """Return the splits without examples that say nothing where they stand, and note what was left out.

    Choices are made on the labels of the validation set, so it keeps labelled examples alone. A test set without any label is
    kept: on it a student can be compared with the teacher.
    """
    splits = dict(source.splits)
    for split in ("test", "validation"):
        if split not in splits:
            continue
        labelled, count = splits[split].labelled, len(splits[split])
        if bool(labelled.all()):
            continue
        if bool(labelled.any()):
            splits[split] = splits[split].subset(labelled.nonzero().squeeze(-1))
            source.notes.append(
                f"The {split} set is the {len(splits[split])} of its {count} examples that have a label."
            )
        elif split == "validation":
            del splits[split]
            source.notes.append("The validation set has no labels to choose by, and is left out.")
        else:
            source.notes.append(
                "The test set has no labels: on it a student can be compared with the teacher alone, not with the truth."
            )
    return splits


def _draw_by_class(examples: Examples, size: int, seed: int, key: str) -> tuple[Tensor, Tensor]:
    """Return the indices of ``size`` labelled examples, drawn in proportion to the classes if each has one, and all others."""
    from sklearn.model_selection import train_test_split

    labels, known = examples.labels, examples.labelled.nonzero().squeeze(-1).numpy()
    classes = labels.numpy()[known] if labels.dim() == 1 else None  # with several labels, too few examples are alike
    if size == len(known):
        drawn = known
    else:
        try:
            drawn, _ = train_test_split(known, train_size=size, stratify=classes, random_state=seed)
        except ValueError as error:
            reason = str(error).partition(". ")[0]
            raise DataError(
                f"{key}: cannot draw {size} of {len(known)} labelled examples class by class ({reason}). If the labels are "
                "numbers to predict and no classes, set task: regression."
            ) from None
    rest = np.setdiff1d(np.arange(len(labels)), drawn)
    return torch.from_numpy(drawn), torch.from_numpy(rest)


def _draw_groups(examples: Examples, groups: Tensor, size: int, split: str) -> tuple[Tensor, Tensor]:
    """Return the indices of about ``size`` labelled examples of whole groups, in proportion to the classes, and all others.

    Examples without a label that belong to the same groups are in neither. Every class keeps labelled examples in the rest.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels, known = examples.labels, examples.labelled.nonzero().squeeze(-1)
    classes = labels[known] if labels.dim() == 1 else torch.zeros_like(known)  # with several labels, too few are alike
    count = len(groups[known].unique())
    folds = StratifiedGroupKFold(max(2, min(count, round(len(known) / size))), shuffle=True, random_state=0)
    choices = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class that is in fewer groups than there are folds
        try:
            for kept, drawn in folds.split(known, classes, groups[known]):
                if len(drawn) and len(classes[kept].unique()) == len(classes.unique()):
                    choices.append(known[torch.from_numpy(drawn)])
        except ValueError:  # of classes with too few examples
            choices = []
    if not choices:
        raise DataError(
            f"data.group_column: no choice among the {count} groups of labelled examples leaves some of every class for "
            f"training. Name a file for data.{split}, or leave out data.group_column."
        )
    drawn = min(choices, key=lambda some: abs(len(some) - size))
    return drawn, (~torch.isin(groups, groups[drawn])).nonzero().squeeze(-1)
