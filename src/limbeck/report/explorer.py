"""What the temperature explorer of a page holds: a few test examples as logits, and the temperatures that are marked.

``templates/explorer.js`` computes the same as ``bars_at`` for the temperature that the reader chooses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from limbeck.report.shown import Shown
from limbeck.tasks import Task

LOWEST, HIGHEST = 0.25, 20.0
"""The temperatures at both ends of the slider."""
EXAMPLES = 10
"""The test examples that an explorer offers."""
ALL_SHOWN = 20
"""The most classes that each have a bar; of more, the first ones have."""
FIRST_SHOWN = 12
"""The classes with a bar where there are many."""
MOST_CLASSES = 2000
"""The most classes whose logits are kept in a page."""


@dataclass(frozen=True)
class Mark:
    """A temperature that is marked on the slider."""

    temperature: float
    name: str
    """A word or two, such as "used"."""


@dataclass(frozen=True)
class Bar:
    """One class at one temperature."""

    name: str
    teacher: float
    """The teacher's soft target."""
    student: float
    """The student's probability at the same temperature."""
    gradient: float
    """The derivative of T² KL with respect to the student's logit."""
    is_label: bool
    is_noise: bool
    """Whether the class has a rank in the teacher's order that is noise."""


@dataclass(frozen=True)
class Explorer:
    """The data of a temperature explorer."""

    classes: Sequence[str]
    shown: Sequence[Shown]
    """The examples as the reader sees them."""
    teacher: Tensor
    """(N, V), the teacher's logits."""
    student: Tensor
    """(N, V), the student's logits."""
    marks: Sequence[Mark]
    steady: int | None = None
    """How many of the first negative ranks of the teacher are steady; None if it was not measured."""
    notes: Sequence[str] = ()
    """What the marks mean, in sentences."""
    family: str = "softmax"
    """Where the probabilities come from: "softmax", or "sigmoid" for each class."""
    lowest: ClassVar[float] = LOWEST
    highest: ClassVar[float] = HIGHEST

    @property
    def start(self) -> float:
        """Return the temperature that is shown first: the first mark's, else 4."""
        return min(max(self.marks[0].temperature, LOWEST), HIGHEST) if self.marks else 4.0

    def place(self, temperature: float) -> float:
        """Return where a temperature is on the slider, in percent of its length.

        Args:
            temperature: T.
        """
        share = math.log(temperature / LOWEST) / math.log(HIGHEST / LOWEST)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    @property
    def others(self) -> int:
        """Return the number of classes that share one bar: what remains of a softmax where there are many."""
        few = len(self.classes) <= ALL_SHOWN or self.family == "sigmoid"
        return 0 if few else len(self.classes) - FIRST_SHOWN

    def as_dict(self) -> dict[str, Any]:
        """Return what the script reads, ready for JSON."""
        examples = [
            {
                "labels": one.labels,
                "bars": self.bars_of(row),
                "teacher": _numbers(self.teacher[row]),
                "student": _numbers(self.student[row]),
            }
            for row, one in enumerate(self.shown)
        ]
        marks = [{"temperature": mark.temperature, "name": mark.name} for mark in self.marks]
        fixed = {
            "lowest": LOWEST,
            "highest": HIGHEST,
            "start": self.start,
            "steady": self.steady,
            "family": self.family,
        }
        return {"classes": list(self.classes), "examples": examples, "marks": marks, **fixed}

    def bars_of(self, row: int) -> list[int]:
        """Return the classes that have a bar of their own.

        Args:
            row: the number of the example.

        Returns:
            All classes in their order where they are few. Of many the teacher's first ones, with the labels and the student's
            first class among them.
        """
        if len(self.classes) <= ALL_SHOWN:
            return list(range(len(self.classes)))
        wanted = [int(self.student[row].argmax()), *(self.shown[row].labels or ())]
        order = self.teacher[row].argsort(descending=True).tolist()
        return sorted(list(dict.fromkeys([*wanted, *order]))[:FIRST_SHOWN], key=order.index)

    def bars_at(self, row: int, temperature: float) -> list[Bar]:
        """Return the bars of an example, as the page shows them before the script runs.

        Args:
            row: the number of the example.
            temperature: T.

        Returns:
            One bar for each of ``bars_of``, and one for all other classes together if there are others.
        """
        z_t, z_s = self.teacher[row].double(), self.student[row].double()
        p_t, p_s = (
            (z / temperature).sigmoid() if self.family == "sigmoid" else (z / temperature).softmax(-1)
            for z in (z_t, z_s)
        )
        rank = z_t.argsort(descending=True).argsort()
        bars = [
            Bar(
                self.classes[i],
                p_t[i].item(),
                p_s[i].item(),
                temperature * (p_s[i] - p_t[i]).item(),
                i in (self.shown[row].labels or ()),
                self.steady is not None and int(rank[i]) > self.steady,
            )
            for i in self.bars_of(row)
        ]
        if self.others:
            teacher, student = (
                max(0.0, 1 - sum(getattr(bar, whose) for bar in bars)) for whose in ("teacher", "student")
            )
            name = f"{self.others} others"
            bars.append(Bar(name, teacher, student, temperature * (student - teacher), False, False))
        return bars


def choose_rows(task: Task, teacher: Tensor, student: Tensor, labels: Tensor | None, count: int = EXAMPLES) -> Tensor:
    """Choose test examples that are worth exploring.

    Args:
        task: says how sure the teacher is, and whether the models decide alike.
        teacher: (N, V), the teacher's logits.
        student: (N, V), the student's logits.
        labels: as the task has them; None if they are not known.
        count: how many to choose.

    Returns:
        The row numbers. One in three are those about which the models differ most certainly, one in three those of which the
        teacher is least sure; the others are spread evenly over the rest.
    """
    sure = task.confidence(teacher)
    differs = task.agreement(student, teacher) < 1
    if labels is not None:
        differs = differs & (task.scores(teacher, labels)["accuracy"] == 1)
    third = count // 3
    chosen = [i for i in torch.where(differs, sure, -1.0).argsort(descending=True).tolist() if differs[i]][:third]
    chosen += [i for i in sure.argsort().tolist() if i not in chosen][:third]
    rest = [i for i in range(len(teacher)) if i not in chosen]
    wanted = min(count - len(chosen), len(rest))
    return torch.tensor(chosen + [rest[i * len(rest) // wanted] for i in range(wanted)])


def _numbers(logits: Tensor) -> list[float | None]:
    """Return logits with the digits of float32; None, which JSON has in place of -inf, for an absent class."""
    return [float(f"{z:.9g}") if math.isfinite(z) else None for z in logits.tolist()]
