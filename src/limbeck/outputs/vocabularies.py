"""Tokens by their ids: whether a column of two language models stands for the same token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from limbeck.errors import ArgumentError

SHOWN = 5
"""Conflicts that a message lists."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a language model's output columns stand for.

    Args:
        tokens: the id of each token, as a tokenizer's ``get_vocab()`` gives them.
        columns: how many output columns the model has; those after the last token are padding.
        source: where the tokens come from, for messages.
    """

    tokens: Mapping[str, int]
    columns: int
    source: str = "the model"


def align_vocabularies(teacher: Vocabulary, student: Vocabulary) -> int:
    """Return how many columns both models share, once it is known that each stands for the same token in both.

    Columns after the last token of both tokenizers are padding, which some models have to reach a round number
    (Qwen2.5: 151,936 and 152,064 columns for 151,665 tokens). They are left out.

    Args:
        teacher: the teacher's vocabulary.
        student: the student's vocabulary.

    Returns:
        The number of leading columns to keep of either model.

    Raises:
        ArgumentError: an id stands for different tokens, or a token is known to one model alone. The message lists the first
            conflicts.

    Example:
        >>> tokens = {"a": 0, "b": 1}
        >>> align_vocabularies(Vocabulary(tokens, 4), Vocabulary(tokens, 8))
        4
    """
    conflicts = sorted(
        (id_, teacher_token, student_token)
        for id_, teacher_token, student_token in _pairs(teacher, student)
        if teacher_token != student_token
    )
    if conflicts:
        shown = "; ".join(
            f"{id_} is {_told(t)} for {teacher.source} and {_told(s)} for {student.source}"
            for id_, t, s in conflicts[:SHOWN]
        )
        raise ArgumentError(
            "vocabulary",
            f"{len(conflicts)} ids do not stand for the same token in both tokenizers: {shown}. Their columns cannot be "
            "compared one by one. Use a student and a teacher that share a tokenizer.",
        )
    return min(teacher.columns, student.columns)


def _pairs(teacher: Vocabulary, student: Vocabulary) -> list[tuple[int, str, str]]:
    """Return each id that either tokenizer knows, with its token on both sides; an empty text stands for none."""
    by_teacher = {id_: token for token, id_ in teacher.tokens.items()}
    by_student = {id_: token for token, id_ in student.tokens.items()}
    return [(id_, by_teacher.get(id_, ""), by_student.get(id_, "")) for id_ in by_teacher.keys() | by_student.keys()]


def _told(token: str) -> str:
    return repr(token) if token else "no token"
