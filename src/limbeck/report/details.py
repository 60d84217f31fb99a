"""The parts that the page of a run and that of a comparison share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from limbeck.report.explorer import Explorer
from limbeck.report.shown import Shown
from limbeck.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Differing:
    """A test example about which the student and the teacher decide differently."""

    shown: Shown
    label: str
    """The name of the true class; empty if it is not known."""
    teacher: str
    """What the teacher decides, with its probability."""
    student: str
    """What the student decides, with its probability."""


@dataclass(frozen=True)
class Details:
    """Parts of a page. One that is None or empty is left out."""

    headline: str = ""
    """The whole in one sentence."""
    losses: Figure | None = None
    """The learning curves."""
    reliability: Figure | None = None
    """Accuracy against confidence."""
    class_gains: Table = field(default_factory=list)
    """The accuracy of each class, and what the student gains or loses."""
    confusions: Table = field(default_factory=list)
    """The most frequent confusions."""
    differing: Sequence[Differing] = ()
    speed: Table = field(default_factory=list)
    """Size, latency and throughput."""
    explorer: Explorer | None = None
    facts: Table = field(default_factory=list)
    """What ran."""
    student: str = ""
    """Which student all of this is about, in words; empty if there is one alone."""
