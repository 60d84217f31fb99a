"""Which layers of its teacher a student begins with. A choice by measurement is made once, and kept in the cache folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
import xxhash
from torch import nn

from limbeck.atomic_files import write_json
from limbeck.data import Splits
from limbeck.errors import ArgumentError, ConfigError, ModelError
from limbeck.evaluation import Answers, answers_of
from limbeck.models.shrink import TeacherLayers, choose_layers, count_layers, with_layers
from limbeck.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from limbeck.store.storage import cache_folder
from limbeck.tasks import task_named

MEASURED = 8
"""The training sequences on which the layers of a teacher are measured, at most."""


def layers_of_teacher(name: str, wanted: TeacherLayers, teacher: nn.Module, splits: Splits) -> list[int]:
    """Return the layers of a teacher that a student begins with. ``splits.notes`` says which.

    Args:
        name: the teacher's name.
        wanted: how many, or which.
        teacher: the teacher, with the tokens that the student knows.
        splits: the examples. Of those for training a few are measured on.

    Returns:
        Their numbers, ascending.

    Raises:
        ConfigError: the data are not those of a language model, or the teacher has too few layers.
    """
    if task_named(splits.task).unit != "token":
        raise ConfigError("student.from_teacher: is for language models, and the data are not theirs. Name a model.")
    some = splits.train.subset(torch.arange(min(MEASURED, len(splits.train))))

    def measure(layers: Sequence[int]) -> float:
        try:
            with with_layers(teacher, layers):
                answers = answers_of(teacher, some)
        except ModelError:  # without a layer that others need
            return -math.inf
        assert isinstance(answers, Answers)
        return answers.metrics["log_likelihood"]

    kept = None
    if wanted.choose == "measured":
        content = f"{wanted.layers} {fingerprint_of_model(teacher)} {fingerprint_of_examples(some)}"
        kept = cache_folder() / "layers" / f"{xxhash.xxh3_128_hexdigest(content.encode())}.json"
    try:
        layers = _read(kept) or choose_layers(wanted, count_layers(teacher), measure)
    except ArgumentError as error:
        raise ConfigError(f"student.from_teacher.{error.argument}: {error.message}") from None
    if kept is not None and not kept.is_file():
        with suppress(OSError):  # where it cannot be kept, it is measured again
            write_json(kept, layers)
    note = f"The student begins with the layers {', '.join(map(str, layers))} of {name}."
    if note not in splits.notes:
        splits.notes.append(note)
    return layers


def _read(kept: Path | None) -> list[int] | None:
    """Return the layers that were chosen before; None if there are none or the file is broken."""
    if kept is None:
        return None
    with suppress(OSError, ValueError):
        return json.loads(kept.read_text(encoding="utf-8"))
    return None
