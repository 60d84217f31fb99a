"""What a check finds: a verdict for each property, with the number that shows it and the fix."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What is said of one property of a loss."""

    RIGHT = "right"
    """The loss has the property."""
    WRONG = "wrong"
    """The loss is wrong on ordinary input."""
    LIMITED = "limited"
    """The loss is right on ordinary input, and fails on the input that the line names."""
    UNKNOWN = "cannot be told"
    """The loss behaves in a way that may be meant."""
    ABSENT = "not applicable"
    """The loss has nothing that the property is about."""


@dataclass(frozen=True)
class Finding:
    """The verdict on one property.

    Args:
        property: the name of the property.
        verdict: what is said of it.
        shown: what was seen, with its number.
        number: the number alone; None where there is none.
        fix: what to change; empty where nothing has to be changed.
    """

    property: str
    verdict: Verdict
    shown: str
    number: float | None = None
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """What a check finds in one loss.

    Args:
        loss: the name of the loss.
        formula: what the loss computes, as far as it was recognised.
        findings: one for each property.
    """

    loss: str
    formula: str
    findings: tuple[Finding, ...]

    def __getitem__(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.property == name)

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """Return the findings whose verdict is "wrong"."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.WRONG)

    @property
    def limited(self) -> tuple[Finding, ...]:
        """Return the findings whose verdict is "limited"."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.LIMITED)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as values that JSON has."""
        return {"loss": self.loss, "formula": self.formula, "findings": [_as_dict(f) for f in self.findings]}

    def table(self) -> list[list[str]]:
        """Return the rows of a table: property, verdict and what was seen; the first row is the header."""
        return [["property", "verdict", "seen"], *([f.property, str(f.verdict), f.shown] for f in self.findings)]

    def fixes(self) -> list[str]:
        """Return one line for each finding that has a fix."""
        return [f"{finding.property}: {finding.fix}" for finding in self.findings if finding.fix]


def _as_dict(finding: Finding) -> dict[str, Any]:
    """Return a finding with None in the place of NaN and infinity, which JSON lacks."""
    number = finding.number
    return {**asdict(finding), "number": number if number is None or math.isfinite(number) else None}
