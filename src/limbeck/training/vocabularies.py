"""Which output columns teacher and student have in common where these are tokens, and whether both read the same tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ArgumentError
from limbeck.losses import SparseTargets
from limbeck.models import SelectedColumns, saved_tokens, token_columns, tokens_of
from limbeck.models.forward import input_names
from limbeck.outputs import Vocabulary, align_vocabularies, check_inputs
from limbeck.store import StoredTeacher
from limbeck.teachers import Teacher

TOLD = (
    "The tokenizers compared are those given as processing_class (the student's) and teacher_tokenizer, that of the data, "
    "or the one saved beside a model's weights. If tokens were added to one since, pass it."
)


class SharedVocabulary:
    """The leading output columns that teacher and student share, after a comparison of their tokens by id.

    Making one compares what is known before training: both tokenizers, and the widths of models of Transformers.

    Args:
        student: the model that is trained.
        teacher: its teacher.
        tokenizer: the tokenizer of the data; None for the one that is saved with the student.
        teacher_tokenizer: the teacher's; None for the one that is saved with it, or that its store was built with.

    Raises:
        ArgumentError: an id stands for different tokens.
    """

    def __init__(
        self, student: nn.Module, teacher: Teacher | None, tokenizer: Any = None, teacher_tokenizer: Any = None
    ) -> None:
        width, tokens = token_columns(student), tokens_of(tokenizer)
        if tokens is None and teacher is not None and _reads_tokens(student):
            tokens = saved_tokens(student)
        self.predicts_tokens = width is not None
        """True if the student is seen to be a language model of Transformers."""
        self._student = _vocabulary(tokens, "the student")
        self._teachers = [] if teacher is None else _vocabularies_of(teacher, tokens_of(teacher_tokenizer))
        self._classes = teacher.store.description.classes if isinstance(teacher, StoredTeacher) else None
        self._columns: dict[tuple[int, int], int] = {}
        if self._student is None:
            return
        for vocabulary in self._teachers:
            if width is None:
                _refusing(check_inputs, vocabulary, self._student)
            elif vocabulary.columns:
                self.columns(vocabulary.columns, width)

    def columns(self, teacher: int, student: int) -> int:
        """Return how many leading columns both have in common.

        Args:
            teacher: the number of the teacher's columns, each of which is a token.
            student: the number of the student's.

        Raises:
            ArgumentError: an id stands for different tokens; or the numbers differ, and a tokenizer is not known.
        """
        if (teacher, student) not in self._columns:
            self._columns[teacher, student] = self._compare(teacher, student)
        return self._columns[teacher, student]

    def cut(self, logits: Tensor, teacher: Tensor | SparseTargets) -> tuple[Tensor, Tensor | SparseTargets]:
        """Return the logits and the teacher's targets on the columns that both models share.

        Args:
            logits: (..., V), the student's.
            teacher: (..., V_t) logits; or sparse targets, which are taken to fit unless they come from a store.

        Returns:
            Both with the same number of columns. A class of sparse targets that is cut is listed as none.

        Raises:
            ArgumentError: as ``columns`` does.
        """
        width = teacher.shape[-1] if isinstance(teacher, Tensor) else self._classes
        if width is None:
            return logits, teacher
        columns = self.columns(width, logits.shape[-1])
        logits = logits[..., :columns]
        if isinstance(teacher, Tensor):
            return logits, teacher[..., :columns]
        if width == columns:
            return logits, teacher
        ids = torch.where(teacher.ids < columns, teacher.ids, -1)
        return logits, replace(teacher, ids=ids, log_rests={})  # what was listed there is now in the rest

    def _compare(self, teacher: int, student: int) -> int:
        if self._student is not None and self._teachers:
            ours = replace(self._student, columns=student)
            for theirs in self._teachers:
                _refusing(align_vocabularies, replace(theirs, columns=teacher), ours)
        elif teacher != student:
            unknown = "teacher_tokenizer" if self._student is not None else "processing_class"
            whose = {"teacher_tokenizer": "the teacher's tokenizer", "processing_class": "the student's tokenizer"}
            raise ArgumentError(
                unknown,
                f"the teacher has {teacher:,} output columns and the student {student:,}. Whether they differ by padding alone "
                f"cannot be told without {whose[unknown]}. Pass it; both tokenizers are then compared by their ids.",
            )
        return min(teacher, student)


def _vocabulary(tokens: Mapping[str, int] | None, source: str, columns: int | None = None) -> Vocabulary | None:
    return None if tokens is None else Vocabulary(tokens, columns or 0, source)


def _vocabularies_of(teacher: Teacher, given: Mapping[str, int] | None) -> Sequence[Vocabulary]:
    """Return what is known about the tokens of a teacher, or of each model of an ensemble."""
    if isinstance(teacher, StoredTeacher):
        description = teacher.store.description
        if given is None and description.vocabulary is not None:
            return [Vocabulary(None, description.classes, str(teacher.store.storage), description.vocabulary)]
        found = [_vocabulary(given, "the teacher", description.classes)]
    else:
        models = [model.model if isinstance(model, SelectedColumns) else model for model in teacher.models]
        found = [
            _vocabulary(saved_tokens(model) if given is None else given, "the teacher", token_columns(model))
            for model in models
            if _reads_tokens(model)
        ] or [_vocabulary(given, "the teacher")]
    return [vocabulary for vocabulary in found if vocabulary is not None]


def _reads_tokens(model: nn.Module) -> bool:
    return "input_ids" in input_names(model)


def _refusing(compare: Any, teacher: Vocabulary, student: Vocabulary) -> None:
    """Compare two vocabularies; an error names the trainer's arguments."""
    try:
        compare(teacher, student)
    except ArgumentError as error:
        raise ArgumentError("teacher", f"{error.message} {TOLD}") from None
