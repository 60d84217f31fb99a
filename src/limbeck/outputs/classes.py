"""Classes by their names: which column of a teacher is which class of the data."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.errors import ArgumentError

SHOWN = 8
"""Names that a message lists of a long list."""


def one_line(name: str) -> str:
    r"""Return a name as it can stand in one line of text: line breaks and control characters become spaces.

    Args:
        name: any text, such as the name of a class.

    Example:
        >>> one_line("cat\nor dog")
        'cat or dog'
    """
    unseen = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, line and paragraph separators
    return "".join(" " if unicodedata.category(character) in unseen else character for character in name)


def are_numbers(names: Sequence[str]) -> bool:
    """Return True if the names are "0", "1", ... in order, as those of an estimator that was fitted on class numbers.

    Args:
        names: the name of each column.
    """
    return all(name == str(i) for i, name in enumerate(names))


def is_generic(names: Sequence[str]) -> bool:
    """Return True if the names say nothing: "LABEL_0", "LABEL_1", ... in order, which Hugging Face configs have by default.

    Args:
        names: the name of each column.

    Example:
        >>> is_generic(["LABEL_0", "LABEL_1"]), is_generic(["cat", "dog"])
        (True, False)
    """
    return all(re.fullmatch(rf"LABEL_{i}", name) for i, name in enumerate(names))


@dataclass(frozen=True)
class ClassNames:
    """The classes that a model's output columns stand for, in the order of the columns.

    Args:
        names: the name of each column, all different; any character is allowed.
        source: where the names come from, for messages, such as "the data" or "teacher/config.json".
        numbers_allowed: names 0, 1 and so on may be the numbers of labels, as those of a fitted estimator.

    Raises:
        ArgumentError: a name occurs twice.
    """

    names: tuple[str, ...]
    source: str = "the model"
    numbers_allowed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        twice = sorted({name for name in self.names if self.names.count(name) > 1}) if self._has_duplicates else []
        if twice:
            raise ArgumentError(
                "classes",
                f"{self.source} has the name {twice[0]!r} for several classes, so that they cannot be told apart. "
                "Give each class a name of its own.",
            )

    @property
    def _has_duplicates(self) -> bool:
        return len(set(self.names)) < len(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def are_known(self) -> bool:
        """True if the names mean something; generic names count as numbers and are compared by their count alone."""
        return not is_generic(self.names)

    def are_numbers_of(self, others: ClassNames) -> bool:
        """Return True if the names are the numbers of the labels that others have names for.

        Args:
            others: the classes of the labels.
        """
        is_named = bool(set(self.names) & set(others.names))
        return self.numbers_allowed and are_numbers(self.names) and not is_named


def align_classes(teacher: ClassNames, student: ClassNames) -> tuple[int, ...] | None:
    """Return which column of the teacher stands for each class of the student, or None where they are the same already.

    Args:
        teacher: the teacher's classes.
        student: the student's classes, which are those of the data.

    Returns:
        One column of the teacher for each class of the student, in the student's order. None if no column has to move.

    Raises:
        ArgumentError: the student has a class that the teacher lacks, or the meaning of the columns is not known and their
            number differs. The message shows both lists and the remedy.

    Example:
        >>> align_classes(ClassNames(("pos", "neutral", "neg")), ClassNames(("neg", "pos")))
        (2, 0)
    """
    if teacher.are_numbers_of(student) or not (teacher.are_known and student.are_known):
        if len(teacher) == len(student):
            return None
        raise ArgumentError(
            "classes",
            f"{teacher.source} has {len(teacher)} output columns{_named(teacher)}, and {student.source} has {len(student)}"
            f"{_named(student)}. Without names on both sides nobody knows which columns belong together. Write the names into "
            "the config of the model (id2label), or use a model with as many columns.",
        )
    if teacher.names == student.names:
        return None
    column = {name: i for i, name in enumerate(teacher.names)}
    missing = [name for name in student.names if name not in column]
    if missing:
        raise ArgumentError("classes", _refusal(teacher, student, missing))
    return tuple(column[name] for name in student.names)


def specialist_columns(teacher: ClassNames, student: ClassNames) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return which classes of the student a specialist knows, and in which columns; None if the teacher is no specialist.

    A specialist has names for two or more classes of the student but not all, and at most one other class: its "dustbin", which
    stands for everything else.

    Args:
        teacher: the teacher's classes.
        student: the student's classes, which are those of the data.

    Returns:
        The columns, and the number of the student's class that each stands for, in ascending order.

    Example:
        >>> specialist_columns(ClassNames(("lynx", "cat", "other")), ClassNames(("cat", "dog", "emu", "lynx")))
        ((1, 0), (0, 3))
    """
    known = [i for i, name in enumerate(student.names) if name in teacher.names]
    others = [name for name in teacher.names if name not in student.names]
    missing = {_folded(name) for name in student.names if name not in teacher.names}
    is_one = len(known) >= 2 and len(teacher) < len(student) and len(others) <= 1 and teacher.are_known
    if not is_one or any(_folded(name) in missing for name in others):
        return None
    return tuple(teacher.names.index(student.names[i]) for i in known), tuple(known)


def _refusal(teacher: ClassNames, student: ClassNames, missing: Sequence[str]) -> str:
    text = (
        f"{teacher.source} lacks {len(missing)} of the {len(student)} classes of {student.source}: {listed(missing)}. "
        f"{_beginning(teacher.source)} has {listed(teacher.names)}; {student.source} has {listed(student.names)}."
    )
    folded = {_folded(name): name for name in teacher.names}
    alike = [f"{folded[_folded(name)]!r} for {name!r}" for name in missing if _folded(name) in folded]
    if alike:
        return f"{text} Some differ in spelling alone ({', '.join(alike[:SHOWN])}): rename them on one side."
    return f"{text} Rename the classes of one side (id2label of the model), or use a teacher that knows these classes."


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _beginning(source: str) -> str:
    return source[:1].upper() + source[1:]


def _named(classes: ClassNames) -> str:
    return f" ({listed(classes.names)})" if classes.are_known else " without names"


def listed(names: Sequence[str]) -> str:
    """Return names as a message shows them: the first few, and how many more there are.

    Args:
        names: the names.
    """
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
