"""The check itself: every property of a loss, and what the loss computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from limbeck.check.calling import as_loss
from limbeck.check.facts import Facts, Shares, is_near
from limbeck.check.probe import open_probe, told
from limbeck.check.properties import ABOUT_FORMULA, in_words
from limbeck.check.robustness import ABOUT_INPUTS
from limbeck.check.verdicts import Finding, Report, Verdict
from limbeck.errors import ArgumentError, expected_name

PROPERTIES: tuple[str, ...] = tuple(p.__name__ for p in (*ABOUT_FORMULA, *ABOUT_INPUTS))
"""The names of the properties, in the order of a report."""


def check_loss(
    loss: object,
    *,
    call: Callable[..., Any] | None = None,
    shape: Sequence[int] | None = None,
) -> Report:
    """Return what is right and what is wrong with a distillation loss, found by its behaviour on small random logits.

    Args:
        loss: a function of logits; a module; or a class of modules that takes T at construction. Its arguments are found
            by their names.
        call: (student, teacher, labels, T) -> the loss, where the names are not enough. The student's and the teacher's
            logits have the classes last.
        shape: of the logits: (rows, classes), or (sequences, positions, classes). By default the first that it takes.

    Returns:
        One finding for each property.

    Raises:
        ArgumentError: an argument of the loss is not known, or the loss fails on random logits.
        ArgumentTypeError: it cannot be called, or does not return a tensor.

    Example:
        >>> from limbeck import distillation_loss
        >>> report = check_loss(distillation_loss)
        >>> report.formula
        '0.9 T² KL(teacher ‖ student) + 0.1 CE, a mean over rows'
        >>> report.wrong
        ()
    """
    if shape is not None and (len(shape) not in (2, 3) or min(shape) < 3):
        raise ArgumentError(
            "shape", f"expected two or three sizes of 3 or more, such as 6,7 or 3,4,7, got {tuple(shape)}."
        )
    facts = Facts(open_probe(as_loss(loss, call), None if shape is None else tuple(shape)))
    findings = tuple(_examine(judge, facts) for judge in (*ABOUT_FORMULA, *ABOUT_INPUTS))
    try:
        formula = _formula(facts)
    except Exception:  # as in _examine
        formula = "not recognised"
    return Report(facts.probe.loss.name, formula, findings)


def assert_loss(
    loss: object,
    *,
    call: Callable[..., Any] | None = None,
    shape: Sequence[int] | None = None,
    accept: Sequence[str] = (),
    strict: bool = False,
) -> None:
    """Fail a test if a distillation loss has a property that is wrong.

    Args:
        loss: see ``check_loss``.
        call: see ``check_loss``.
        shape: see ``check_loss``.
        accept: names of properties that are meant to be as they are, such as "compensation".
        strict: True also fails where the loss is right on ordinary input alone.

    Raises:
        AssertionError: with one line for each property.
    """
    check_accepted(accept)
    faults = faults_of(check_loss(loss, call=call, shape=shape), accept=accept, strict=strict)
    if faults:
        raise AssertionError("\n".join(f"{f.property}: {f.shown}. {f.fix}" for f in faults))


def check_accepted(accept: Sequence[str]) -> None:
    """Require names of properties.

    Args:
        accept: the names.

    Raises:
        ArgumentError: there is no property of such a name.
    """
    for name in accept:
        if name not in PROPERTIES:
            raise ArgumentError("accept", expected_name(name, PROPERTIES))


def faults_of(report: Report, *, accept: Sequence[str] = (), strict: bool = False) -> list[Finding]:
    """Return the findings that make a check fail.

    Args:
        report: of the check.
        accept: names of properties that are meant to be as they are.
        strict: True also counts those that are right on ordinary input alone.
    """
    found = (*report.wrong, *(report.limited if strict else ()))
    return [finding for finding in found if finding.property not in accept]


def _examine(judge: Callable[[Facts], Finding], facts: Facts) -> Finding:
    try:
        return judge(facts)
    except Exception as error:  # the loss is anybody's, and may refuse what one property needs
        return Finding(judge.__name__, Verdict.UNKNOWN, told(error))


def _formula(facts: Facts) -> str:
    """Return what the loss computes, such as "0.9 T² KL(teacher ‖ student) + 0.1 CE, a mean over rows"."""
    found = facts.match
    if found is None or found.soft is None:
        return "not recognised"
    soft, shares, tau = found.soft, facts.soft_shares, facts.probe.temperature
    power = round(facts.soft_power + soft.power) if facts.probe.loss.takes_temperature else 0
    factor = {0: "", 1: " T", 2: " T²"}.get(power, f" T^{power}")
    classes = facts.probe.shape[-1] if is_near(shares.classes, 0.5) and not soft.per_class else 1
    count = _count(facts, shares) * classes / tau**power
    terms = [
        f"{weight * count:.3g}{factor} {name}" if soft.is_right else name
        for weight, name in zip(found.soft_weights, soft.name.split(" and ", len(soft.values) - 1), strict=True)
    ]
    if found.hard:
        terms.append(f"{sum(found.hard_weights) * _count(facts, facts.hard_shares):.3g} {found.hard.name}")
    fixed = "" if facts.probe.loss.takes_temperature or tau == 1 else f", at T = {tau:g}"
    return f"{' + '.join(terms)}, {in_words(shares)}{fixed}"


def _count(facts: Facts, shares: Shares) -> int:
    """Return what a term is divided by: rows, positions, or both."""
    shape = facts.probe.aligned(facts.example).labels.shape
    return (shape[0] if is_near(shares.rows, 0.5) else 1) * (shape[1] if is_near(shares.positions, 0.5) else 1)
