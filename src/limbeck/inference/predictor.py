"""A run's student with the preparation of its inputs: predictions at T = 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from limbeck.data import IGNORE_INDEX, Examples, Preprocessing
from limbeck.data.new_inputs import NewInput, input_of_row
from limbeck.data.pixels import open_image
from limbeck.data.words import Words
from limbeck.errors import ArgumentError, DataError, ModelError
from limbeck.evaluation import aligned_outputs, predict_logits
from limbeck.inference.completion import MAX_NEW_TOKENS, PROMPTS, complete, fill
from limbeck.tasks import MaskedLM, Regression, has_numbers, task_named

BATCH_SIZE = 256
SMALL_BATCH = 8
"""The images in a batch where each pixel has logits."""
Answer = Tensor | str | list[dict[str, float]] | DataError
"""Logits; what a language model writes; the likeliest tokens for each mask of a text; or why an input cannot be read."""


@dataclass(frozen=True)
class Prediction:
    """The student's prediction for one input, at T = 1."""

    input: str
    """The file, or the text; of a row of a table, the file and the row."""
    label: str | None
    """The name of the most probable class, or what else the task answers in words; None if the input cannot be read."""
    probabilities: dict[str, float] = field(default_factory=dict)
    """The probability of every class, by its name."""
    shares: dict[str, float] = field(default_factory=dict)
    """Where each pixel has a class: the share of the pixels of every class, by its name."""
    tags: list[tuple[str, str, float]] = field(default_factory=list)
    """Where each word has a tag: the word, its tag, and the probability of that. Words without a token are left out."""
    mask: str | None = None
    """The file with the class of each pixel, if one was written."""
    columns: dict[str, Any] = field(default_factory=dict)
    """The other columns of the input's row, where it stands in a table."""
    teacher: str | None = None
    """What the teacher of a language model writes or fills in, if it was asked."""
    error: str | None = None
    """Why the input cannot be read; None if it can."""
    masked: list[dict[str, float]] = field(default_factory=list)
    """Of a masked language model: for each mask in the text the likeliest tokens, with the probability of each."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Of a regression each predicted number by the name of its column; of an embedding each number by its place."""


class Predictor:
    """A student with the preparation of its inputs, which predicts new inputs at T = 1. ``limbeck.load`` makes one.

    Inputs are a list: image files, PIL images or arrays of pixels from 0 to 255; texts, or lists of words where each has a tag;
    pairs of texts; or rows of a table, each a dictionary of its cells by column. A ``pandas.DataFrame`` may stand for any list.

    Args:
        model: the student.
        preprocessing: how its inputs are prepared, its task, and the names of its classes.
        logit_scale: what logits are multiplied by, as ``limbeck calibrate`` finds it; 1 leaves them as they are.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, *, logit_scale: float = 1.0) -> None:
        self.model, self.preprocessing, self.logit_scale = model.eval(), preprocessing, logit_scale
        self.task = task_named(preprocessing.task)

    @property
    def classes_(self) -> np.ndarray:
        """Return the names of the classes, in the order of the columns of ``predict_proba``.

        Raises:
            ModelError: the student has no classes.
        """
        self._check_has_probabilities("classes_")
        return np.array(self.preprocessing.label_names)

    def predict(self, inputs: Iterable[Any], *, max_new_tokens: int = MAX_NEW_TOKENS) -> Any:
        """Predict some inputs.

        Args:
            inputs: a list of inputs, as the class takes them.
            max_new_tokens: the tokens that a language model writes after each text, at most.

        Returns:
            As scikit-learn has it: the class names (N,); with several labels 0 or 1 for each class, (N, C); in regression the
            numbers in the unit of their column, (N,) or (N, K). Of embeddings (N, D). Where each pixel has a class, a list with
            an array (H, W) for each image, of its own size, with places in ``classes_``. Where each word has a tag, a list of
            tags for each text, None for a word after the last token that is read. Of a language model, what follows each text.

        Raises:
            ArgumentError: ``inputs`` is a single input.
            DataError: there are no inputs, or one of them cannot be read; it is named.
        """
        found = [self._decide(answer) for answer in self._readable(inputs, max_new_tokens)]
        if self.task.unit != "example":
            return found
        decided = np.stack(found)
        if has_numbers(self.task):
            return decided[:, 0] if isinstance(self.task, Regression) and decided.shape[1] == 1 else decided
        return decided.astype(int) if decided.ndim == 2 else self.classes_[decided]

    def predict_proba(self, inputs: Iterable[Any]) -> Any:
        """Return the probability of each class, its columns in the order of ``classes_``.

        Args:
            inputs: as in ``predict``.

        Returns:
            As scikit-learn has it: (N, C); the rows sum to 1, except with several labels. Where each pixel has a class, a list
            with (H, W, C) for each image. Where each word has a tag, a list with (words, C) for each text, NaN for a word
            after the last token that is read.

        Raises:
            ModelError: the student has no such probabilities.
            ArgumentError: ``inputs`` is a single input.
            DataError: there are no inputs, or one of them cannot be read; it is named.
        """
        self._check_has_probabilities("predict_proba")
        rows = [self.task.probabilities(row).numpy() for row in self._readable(inputs)]
        return np.stack(rows) if self.task.unit == "example" else rows

    def stream(self, inputs: Iterable[Any], *, max_new_tokens: int = MAX_NEW_TOKENS) -> Iterator[Prediction]:
        """Yield one prediction for each input, batch by batch. An input that cannot be read does not stop the others.

        Args:
            inputs: as in ``predict``; any iterable, however long.
            max_new_tokens: as in ``predict``.

        Yields:
            Predictions in the order of the inputs. One that cannot be read has an ``error`` in place of a label.

        Raises:
            ArgumentError: ``inputs`` is a single input.
            DataError: there are no inputs.
        """
        for item, answer in self.answers(inputs, max_new_tokens=max_new_tokens):
            yield self.tell(item, answer)

    def answers(
        self, inputs: Iterable[Any], *, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> Iterator[tuple[NewInput, Answer]]:
        """Yield for each input what ``logits`` returns, of a language model what it writes, or why it cannot be read.

        Args:
            inputs: as in ``stream``.
            max_new_tokens: as in ``predict``.

        Yields:
            The input, and the answer.
        """
        for batch in self._batches(inputs):
            yield from self._answer(batch, max_new_tokens)

    def tell(self, item: NewInput, answer: Answer) -> Prediction:
        """Return an answer in words and numbers.

        Args:
            item: the input.
            answer: what ``answers`` yielded for it.
        """
        named: dict[str, Any] = {"input": item.name, "columns": item.columns}
        if isinstance(answer, DataError):
            return Prediction(label=None, error=_told(item, answer), **named)
        if isinstance(answer, str):
            return Prediction(label=answer, **named)
        if isinstance(answer, list):
            return Prediction(label=_filled(answer), masked=answer, **named)
        if self.task.unit == "word":
            tags = zip(
                self._words(item.content), self._tags(answer), self.task.confidence(answer).tolist(), strict=True
            )
            known = [(word, tag, confidence) for word, tag, confidence in tags if tag is not None]
            return Prediction(label=" ".join(f"{word}/{tag}" for word, tag, _ in known), tags=known, **named)
        label, told = self.task.tell(answer, self.preprocessing.label_names)
        kind = "shares" if self.task.unit == "pixel" else "numbers" if has_numbers(self.task) else "probabilities"
        return Prediction(label=label, **{kind: told}, **named)

    def complete(self, items: Sequence[NewInput], max_new_tokens: int) -> list[str]:
        """Return what a language model writes after each text.

        Args:
            items: the texts.
            max_new_tokens: the tokens that are written after each, at most.

        Raises:
            DataError: one of them is no text.
        """
        return complete(self.model, self.preprocessing, [item.content for item in items], max_new_tokens)

    def logits(self, items: Sequence[NewInput]) -> list[Tensor]:
        """Return the logits of each input, with the classes in the last axis.

        Args:
            items: the inputs of one batch.

        Returns:
            (C,) for each input, in regression the numbers in the unit of their column; (H, W, C) where each pixel has a class,
            interpolated to the size of the image; (words, C) where each word has a tag, NaN for a word without a token.

        Raises:
            DataError: one of them cannot be read.
        """
        if self.task.unit == "word":
            return self._logits_of_words(items)
        batch = self.preprocessing([item.content for item in items])
        rows = predict_logits(self.model, self._unlabelled(batch, len(items)), batch_size=BATCH_SIZE)
        if self.task.unit == "pixel":
            return [self._at_pixels(row, item) for row, item in zip(rows, items, strict=True)]
        target = self.preprocessing.target
        return list((rows if target is None else target.undo(rows)) * self.logit_scale)

    def _at_pixels(self, logits: Tensor, item: NewInput) -> Tensor:
        """Return the logits (C, h, w) of an image as (H, W, C), interpolated to the size that the image has itself."""
        image = open_image(item.content)
        size = (image.height, image.width)
        at_pixels = interpolate(logits[None], size=size, mode="bilinear", align_corners=False)
        return self.task.align(at_pixels)[0] * self.logit_scale

    def _logits_of_words(self, items: Sequence[NewInput]) -> list[Tensor]:
        words, read = [self._words(item.content) for item in items], self.preprocessing
        loader = Words(words, read.tokenizer, read.max_length)
        examples = Examples(loader, torch.full((len(items),), IGNORE_INDEX), task=self.task.name)
        found = []
        for logits, targets in aligned_outputs(self.model, examples):
            for row, mask in zip(logits, targets.mask, strict=True):
                given, starts = words[len(found)], loader.starts[len(found)]
                of_words = row.new_full((len(given), row.shape[-1]), torch.nan)
                of_words[list(starts)] = row[mask]
                found.append(of_words.cpu() * self.logit_scale)
        return found

    def _words(self, content: Any) -> Any:
        return self.preprocessing.words(content)

    def _readable(self, inputs: Iterable[Any], max_new_tokens: int = MAX_NEW_TOKENS) -> Iterator[Any]:
        """Yield the answer about each input. One that cannot be read raises its error."""
        for item, answer in self.answers(inputs, max_new_tokens=max_new_tokens):
            if isinstance(answer, DataError):
                raise DataError(_told(item, answer))
            yield answer

    def _decide(self, answer: Any) -> Any:
        """Return what ``predict`` says of one input."""
        if isinstance(answer, str | list):
            return answer if isinstance(answer, str) else _filled(answer)
        return self._tags(answer) if self.task.unit == "word" else self.task.decide(answer).numpy()

    def _tags(self, logits: Tensor) -> list[str | None]:
        """Return the tag of each word of a text."""
        names, decided = self.preprocessing.label_names, self.task.decide(logits).tolist()
        is_known = (~logits.isnan().any(-1)).tolist()
        return [names[i] if known else None for i, known in zip(decided, is_known, strict=True)]

    def _answer(self, items: Sequence[NewInput], max_new_tokens: int) -> Iterator[tuple[NewInput, Answer]]:
        """Yield the answer about each input of a batch. One that cannot be read does not stop the others."""
        try:
            for item in items:
                if isinstance(item.content, DataError):
                    raise item.content
            answers: Sequence[Any]
            if isinstance(self.task, MaskedLM):
                answers = [fill(self.model, self.preprocessing, item.content) for item in items]
            else:
                answers = self.complete(items, max_new_tokens) if self.task.unit == "token" else self.logits(items)
        except DataError as error:
            if len(items) == 1:
                yield items[0], error
            else:
                for item in items:
                    yield from self._answer([item], max_new_tokens)
            return
        yield from zip(items, answers, strict=True)

    def _batches(self, inputs: Iterable[Any]) -> Iterator[list[NewInput]]:
        """Yield inputs in batches."""
        items = self._items(inputs)
        first = next(items, None)
        if first is None:
            raise DataError("inputs: there are none. Expected at least one.")
        items = chain([first], items)
        size = PROMPTS if self.task.unit == "token" else SMALL_BATCH if self.task.unit == "pixel" else BATCH_SIZE
        yield from iter(lambda: list(islice(items, size)), [])

    def _items(self, inputs: Iterable[Any]) -> Iterator[NewInput]:
        """Yield the inputs, each with what it is called."""
        read = self.preprocessing
        if isinstance(inputs, str | Path | Mapping) or not hasattr(inputs, "__iter__"):
            raise ArgumentError("inputs", f"expected a list, got one {type(inputs).__name__}. Put it in a list.")
        if hasattr(inputs, "to_dict"):  # a pandas.DataFrame
            kind = "row" if read.table else "image" if read.image else "text"
            columns = read.column if read.table is None else read.table.columns
            for number, row in enumerate(inputs.to_dict("records")):  # pyright: ignore[reportAttributeAccessIssue]
                yield input_of_row(row, f"row {number}", kind, columns, source="inputs")
            return
        for number, item in enumerate(inputs):
            named = str(item) if isinstance(item, str | Path) else f"input {number}"
            yield item if isinstance(item, NewInput) else NewInput(named, item)

    def _unlabelled(self, batch: dict[str, Any], count: int) -> Examples:
        """Return the inputs of a batch as examples without labels."""

        def load(rows: list[int]) -> dict[str, Any]:
            return {name: value[rows] for name, value in batch.items()}

        return Examples(load, torch.full((count,), IGNORE_INDEX), task=self.task.name)

    def _check_has_probabilities(self, what: str) -> None:
        if has_numbers(self.task):
            raise ModelError(f"{what}: the student predicts numbers ({self.task.name}), which have no probabilities.")
        if self.task.unit == "token":
            raise ModelError(
                f"{what}: a language model has a probability for each token of its vocabulary at each place of a text. Call "
                "the model itself (.model) for its logits, or predict for what it writes."
            )


def _told(item: NewInput, error: DataError) -> str:
    """Return why an input cannot be read, with its name."""
    return str(error) if item.name in str(error) else f"{item.name}: {error}"


def _filled(masked: Sequence[dict[str, float]]) -> str:
    """Return the likeliest token for each mask of a text."""
    return " ".join(next(iter(tokens)).strip() for tokens in masked)
