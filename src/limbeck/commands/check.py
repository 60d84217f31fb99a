"""``limbeck check``: is a distillation loss right?"""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.check import Finding, Report, check_loss
from limbeck.check.calling import call_from_text, import_loss
from limbeck.check.checking import check_accepted, faults_of
from limbeck.errors import ArgumentError


def check(
    name: str,
    *,
    call: str | None = None,
    shape: str | None = None,
    accept: Sequence[str] = (),
    strict: bool = False,
) -> tuple[Report, list[Finding]]:
    """Examine a loss by its name.

    Args:
        name: ``package.module:loss``. The module is imported, and the loss is run.
        call: an expression of Python, in which ``loss`` is the loss; None finds the arguments by their names.
        shape: of the logits, as in "6,7"; None takes the first that the loss takes.
        accept: the properties that are meant to be as they are.
        strict: True also fails where the loss is right on ordinary input alone.

    Returns:
        The report, and the findings for which the check fails.

    Raises:
        ArgumentError: there is no such loss or property, or it cannot be called.
    """
    check_accepted(accept)
    sizes = None if shape is None else _sizes(shape)
    loss = import_loss(name)
    report = check_loss(loss, call=None if call is None else call_from_text(call, loss), shape=sizes)
    return report, faults_of(report, accept=accept, strict=strict)


def _sizes(shape: str) -> list[int]:
    try:
        return [int(size) for size in shape.split(",")]
    except ValueError:
        raise ArgumentError("shape", f"expected sizes with commas, such as 6,7 or 3,4,7, got {shape!r}.") from None
