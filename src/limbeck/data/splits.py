"""Training, validation and test kept apart, and labels hidden to make a transfer set."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from limbeck.data.config import DataConfig
from limbeck.data.examples import IGNORE_INDEX, Examples, Splits
from limbeck.data.sources import Source, read_source
from limbeck.errors import DataError

DIGITS_VALIDATION, DIGITS_TEST = 300, 400
FASHION_VALIDATION = 5_000
SHARE = 0.1
"""Of the training examples, what becomes a validation or test set that the source lacks."""


def load_splits(config: DataConfig, *, seed: int = 0) -> Splits:
    """Read a data set, split it, and hide the labels that are not known.

    Args:
        config: which data set, how to read it, and how many of its labels are known.
        seed: draws which labels are known. The split into training, validation and test does not depend on it.

    Returns:
        The training, validation and test examples.

    Raises:
        DataError: the data set cannot be read, or has fewer examples than labels that should be known.
    """
    source = read_source(config)
    train, validation, test = _three_parts(source, config.name)
    splits = Splits(
        train,
        validation,
        test,
        source.shape,
        source.inputs,
        train.labels,
        source.notes,
    )
    return hide_labels(splits, config.labelled, transfer=config.transfer == "all", seed=seed)


def hide_labels(splits: Splits, labelled: float | None, *, transfer: bool = True, seed: int = 0) -> Splits:
    """Keep ``labelled`` of the true labels; the other examples lose theirs, or are left out when not ``transfer``.

    Raises:
        DataError: there are fewer examples than that, or fewer labels than classes.
    """
    train = splits.train.with_labels(splits.true_labels)
    if labelled is None:
        kept = torch.arange(len(train))
    else:
        count = labelled if labelled >= 1 else round(labelled * len(train))
        kept = _stratified(splits.true_labels, int(count), seed, "data.labelled")[0]
    if not transfer:
        kept = kept.sort().values
        train, true_labels = train.subset(kept), splits.true_labels[kept]
    else:
        labels = torch.full_like(splits.true_labels, IGNORE_INDEX)
        labels[kept] = splits.true_labels[kept]
        train, true_labels = train.with_labels(labels), splits.true_labels
    return dataclasses.replace(splits, train=train, true_labels=true_labels)


def _three_parts(source: Source, name: str) -> tuple[Examples, Examples, Examples]:
    """What the source lacks is carved out of training, always the same way, and noted."""
    parts = dict(source.parts)
    sizes = {
        "digits": {"validation": DIGITS_VALIDATION, "test": DIGITS_TEST},
        "fashion-mnist": {"validation": FASHION_VALIDATION},
    }
    for part in ("test", "validation"):
        if part not in parts:
            size = sizes.get(name, {}).get(part) or max(1, round(SHARE * len(source.parts["train"])))
            taken, rest = _stratified(parts["train"].labels, size, 0, f"data.{part}")
            parts[part], parts["train"] = parts["train"].subset(taken), parts["train"].subset(rest)
            source.notes.append(f"{size} of the training examples, drawn by class, are the {part} set.")
    return parts["train"], parts["validation"], parts["test"]


def _stratified(labels: Tensor, size: int, seed: int, key: str) -> tuple[Tensor, Tensor]:
    """Indices of ``size`` examples drawn class by class in proportion, and of the rest, in order."""
    from sklearn.model_selection import train_test_split

    if size == len(labels):
        return torch.arange(len(labels)), torch.arange(0)
    try:
        taken, rest = train_test_split(
            np.arange(len(labels)), train_size=size, stratify=labels.numpy(), random_state=seed
        )
    except ValueError as error:
        raise DataError(f"{key}: cannot draw {size} of {len(labels)} examples class by class ({error}).") from None
    return torch.from_numpy(taken), torch.from_numpy(np.sort(rest))
