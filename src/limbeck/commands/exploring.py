"""The temperature explorer of a run: its examples, and the temperatures that are marked in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.commands.temperature_analyze import live_logits
from limbeck.config import Config
from limbeck.data import Splits
from limbeck.losses.labels import most_likely_classes
from limbeck.report import Explorer, Mark, choose_rows, show_examples
from limbeck.report.explorer import LOWEST, MOST_CLASSES
from limbeck.tasks import has_numbers, task_named
from limbeck.temperature.analysis import noise_temperature, reliability, steady_ranks

SEEN = 200
"""The test examples on whose views the teacher's ranks are measured, at most."""


def explorer_of(
    config: Config,
    splits: Splits,
    teacher: nn.Module,
    logits: tuple[Tensor, Tensor],
    marks: Sequence[Mark],
    note: str = "",
) -> Explorer | None:
    """Return the temperature explorer of a run.

    Args:
        config: the run.
        splits: its examples.
        teacher: the model.
        logits: (N, V) of the teacher and (N, V) of the student, of the test examples.
        marks: the temperatures that were used.
        note: says something about them, in a sentence; "" for nothing.

    Returns:
        The explorer; None where an example has no label of its own, or there are too many classes or one alone.
    """
    task, classes = task_named(splits.task), len(splits.label_names)
    if task.unit != "example" or has_numbers(task) or not 2 <= classes <= MOST_CLASSES:
        return None
    theirs, own = logits
    if theirs.shape[-1] != classes or own.shape[-1] != classes:
        return None
    is_one = task.family == "softmax"
    labels = splits.test.labels if splits.has_test_labels else None
    labels = most_likely_classes(labels) if is_one and labels is not None else labels
    chosen = choose_rows(task, theirs, own, labels)
    steady, noise, told = _noise(config, splits, teacher, theirs) if is_one else (None, [], "")
    return Explorer(
        splits.label_names,
        show_examples(splits.test if labels is None else splits.test.with_labels(labels), chosen),
        theirs[chosen],
        own[chosen],
        [*marks, *noise],
        steady,
        [sentence for sentence in (note, told) if sentence],
        task.family,
    )


def _noise(config: Config, splits: Splits, teacher: nn.Module, logits: Tensor) -> tuple[int | None, list[Mark], str]:
    """Return how many negative ranks are steady, the mark where most of the negative labels is noise, and what it means."""
    if logits.shape[-1] < 3:  # one negative label has no order
        return None, [], ""
    some = splits.test.subset(torch.arange(min(SEEN, len(splits.test))))
    seen = live_logits(teacher, some, config)
    if seen.views is None:
        return None, [], (
            "Where negative labels become noise is not marked: there is one view of each example. A teacher with augmentation "
            "or dropout gives several."
        )  # fmt: skip
    ranks = reliability(seen.views)
    steady = steady_ranks(ranks)
    if not steady:
        return 0, [], (
            f"No rank of negative labels is steady over {seen.kind} of {len(some)} test examples: already the order of the "
            "second and the third class changes from view to view (hatched bars)."
        )  # fmt: skip
    which = "first negative rank is" if steady == 1 else f"first {steady} negative ranks are"
    known = f"The {which} steady over {seen.kind} of {len(some)} test examples"
    if steady == len(ranks):
        return steady, [], f"{known}: all of them."
    noisy_from = noise_temperature(logits, steady, lowest=LOWEST)
    known += "; the classes below have hatched bars, and their order is noise."
    if noisy_from is None:
        return (
            steady,
            [],
            f"{known} At no temperature does most of what the teacher says about negative labels fall on them.",
        )
    mark = Mark(noisy_from, "noise above")
    return (
        steady,
        [mark],
        f"{known} Above T = {noisy_from:.2g} most of what the teacher says about negative labels falls on them.",
    )
