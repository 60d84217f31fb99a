"""Which temperatures are worth trying, in one or two plain sentences, from what was measured on a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from limbeck.losses.inspection import COLLAPSED_BELOW
from limbeck.temperature.calibration import Calibration

if TYPE_CHECKING:
    from limbeck.temperature.analysis import Softness

AT_THE_LIMIT = 0.05
"""The relative distance to the limit of large T below which a higher temperature does the same."""
HIGHEST_TRIED = 1e4
"""Where the search for a temperature that softens a hard teacher ends."""


def conclude(
    softness: Sequence[Softness], calibration: Calibration | None, top_probability: Callable[[float], float]
) -> str:
    """Say which temperatures are worth trying.

    A temperature is worth trying when the soft targets are more than hard labels, and when a lower one does not do the same:
    with T², all temperatures near the limit give the same gradient. A teacher that is not better than chance has none.

    Args:
        softness: what each temperature does, at least one.
        calibration: how the teacher fits true labels; None when there are none.
        top_probability: maps T to the mean probability of the teacher's first class.

    Returns:
        Plain text.
    """
    rows = sorted(softness, key=lambda row: row.temperature)
    lowest, highest = rows[0].temperature, rows[-1].temperature
    known = None if calibration is None else calibration.better_than_chance
    if calibration is not None and known is False:
        return (
            "No temperature is worth trying: the teacher is not better than chance. "
            f"Its accuracy is {100 * calibration.accuracy:.1f} % on {calibration.examples} labelled examples, and always "
            f"naming the most frequent label gives {100 * calibration.chance_accuracy:.1f} %; its NLL is "
            f"{calibration.nll_after:.3f} after calibration, and the frequencies of the labels alone give "
            f"{calibration.chance_nll:.3f}."
        )
    unknown = "" if known else " There are too few labels to say whether the teacher is better than chance."
    soft = [row for row in rows if not _is_hard(row.top_probability)]
    if not soft:
        return _when_hard(highest, top_probability) + unknown
    if all(_is_at_limit(row) for row in soft):
        if soft[0].temperature > lowest:
            worth = f"Worth trying: T = {soft[0].temperature:g}. "
            return worth + _below(soft[0].temperature) + _above(soft[0].temperature) + unknown
        return (
            f"None of these temperatures is worth more than another: from T = {lowest:g} up, they all give nearly the "
            f"same gradient, that of matching logits. Try lower ones than {lowest:g}." + unknown
        )
    last = next((row for row in soft if _is_at_limit(row)), soft[-1])
    first = soft[0].temperature
    span = f"T = {first:g}" if first == last.temperature else f"T from {first:g} to {last.temperature:g}"
    below = _below(first) if first > lowest else ""
    above = _above(last.temperature) if last.temperature < highest else ""
    return f"Worth trying: {span}. {below}{above}".rstrip() + unknown


def _is_hard(top_probability: float) -> bool:
    return 1 - top_probability < COLLAPSED_BELOW


def _is_at_limit(row: Softness) -> bool:
    limit = row.limit_over_hard
    return math.isfinite(limit) and abs(row.compensated_over_hard - limit) <= AT_THE_LIMIT * limit


def _below(temperature: float) -> str:
    return (
        f"Below {temperature:g} the soft targets are as good as hard labels, though a sharper signal can still help a student "
        "that underfits. "
    )


def _above(temperature: float) -> str:
    return f"Above {temperature:g} all temperatures give nearly the same gradient, that of matching logits."


def _when_hard(highest: float, top_probability: Callable[[float], float]) -> str:
    """Return the advice for a teacher whose soft targets are hard labels at every temperature."""
    hard = f"None of these temperatures is worth trying: up to T = {highest:g} the soft targets are as good as hard labels. "
    temperature = highest
    while temperature < HIGHEST_TRIED:
        temperature *= 1.25
        if not _is_hard(top_probability(temperature)):
            return hard + f"Try higher ones, from about T = {float(f'{temperature:.2g}'):g}."
    return hard + "Higher ones do not help: the teacher gives the other classes a probability of 0."
