"""Tokens by their ids: whether an id, and so an output column, stands for the same token in two language models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from limbeck.errors import ArgumentError

SHOWN = 5
"""Conflicts that a message lists."""


def fingerprint_of_tokens(tokens: Mapping[str, int]) -> str:
    """Return a short text that two tokenizers share only if each id stands for the same token in both.

    Args:
        tokens: the id of each token, as a tokenizer's ``get_vocab()`` gives them.

    Example:
        >>> fingerprint_of_tokens({"a": 0, "b": 1}) == fingerprint_of_tokens({"b": 1, "a": 0})
        True
    """
    content = json.dumps(dict(tokens), sort_keys=True).encode()
    return f"{len(tokens)} tokens, {hashlib.sha256(content).hexdigest()[:32]}"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that the ids of a language model stand for.

    Args:
        tokens: the id of each token, as a tokenizer's ``get_vocab()`` gives them; None if only their fingerprint is known.
        columns: how many output columns the model has; those after the last token are padding.
        source: where the tokens come from, for messages.
        fingerprint: what ``fingerprint_of_tokens`` returned for them, where ``tokens`` is None.
    """

    tokens: Mapping[str, int] | None
    columns: int
    source: str = "the model"
    fingerprint: str = ""


def align_vocabularies(teacher: Vocabulary, student: Vocabulary) -> int:
    """Return how many columns both models share, once it is known that each stands for the same token in both.

    Columns after the last token of both tokenizers are padding, which some models have to reach a round number
    (Qwen2.5: 151,936 and 152,064 columns for 151,665 tokens). Tokens after the shared columns are not compared.

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
    columns = min(teacher.columns, student.columns)
    conflicts = [conflict for conflict in _conflicts(teacher, student) if conflict[0] < columns]
    if conflicts:
        raise _refusal(conflicts, teacher, student, "Their columns cannot be compared one by one.")
    return columns


def check_inputs(teacher: Vocabulary, data: Vocabulary) -> None:
    """Check that a teacher reads every token of the data as the token that it is.

    Args:
        teacher: the teacher's vocabulary. It may know more tokens.
        data: the vocabulary of the tokenizer that the data were tokenised with.

    Raises:
        ArgumentError: an id of the data stands for another token or for none. The message lists the first conflicts.
    """
    conflicts = [conflict for conflict in _conflicts(teacher, data) if conflict[2]]
    if conflicts:
        raise _refusal(conflicts, teacher, data, "The same ids would be read as other texts.")


Conflict = tuple[int, list[str], list[str]]
"""An id, and the tokens that it stands for on both sides: none, one, or several."""


def _conflicts(teacher: Vocabulary, other: Vocabulary) -> list[Conflict]:
    """Return the ids that do not stand for the same tokens on both sides, ascending."""
    if teacher.tokens is None or other.tokens is None:
        ours, theirs = (
            v.fingerprint if v.tokens is None else fingerprint_of_tokens(v.tokens) for v in (other, teacher)
        )
        if ours == theirs:
            return []
        raise ArgumentError(
            "vocabulary",
            f"{teacher.source} was made with another tokenizer than {other.source}: {theirs} there, {ours} here. Build it "
            "again with a teacher that shares the student's tokenizer.",
        )
    if teacher.tokens == other.tokens:
        return []
    differing: dict[int, tuple[list[str], list[str]]] = {}
    for side, (tokens, others) in enumerate([(teacher.tokens, other.tokens), (other.tokens, teacher.tokens)]):
        for token, id_ in tokens.items():
            if others.get(token) != id_:
                differing.setdefault(id_, ([], []))[side].append(token)
    return [(id_, *differing[id_]) for id_ in sorted(differing)]


def _refusal(conflicts: list[Conflict], teacher: Vocabulary, other: Vocabulary, consequence: str) -> ArgumentError:
    shown = "; ".join(
        f"{id_} is {_told(theirs)} for {teacher.source} and {_told(ours)} for {other.source}"
        for id_, theirs, ours in conflicts[:SHOWN]
    )
    many = "1 id does" if len(conflicts) == 1 else f"{len(conflicts)} ids do"
    return ArgumentError(
        "vocabulary",
        f"{many} not stand for the same token in both tokenizers: {shown}. {consequence} Use a student and a teacher that "
        "share a tokenizer, or for causal language models set alignment: uld (in distillation), which compares sorted "
        "probabilities.",
    )


def _told(tokens: list[str]) -> str:
    return ", ".join(map(repr, tokens)) or "no token"
