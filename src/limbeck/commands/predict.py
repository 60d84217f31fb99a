"""``limbeck predict``: predict new inputs with a run's student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from limbeck.commands.completion import MAX_NEW_TOKENS, PROMPTS, complete, fill, load_teacher_of_run
from limbeck.data import IGNORE_INDEX, Examples, Preprocessing
from limbeck.data.masks import MaskWriter
from limbeck.data.new_inputs import NewInput, read_new_inputs
from limbeck.data.pixels import open_image
from limbeck.data.texts import load_tokenizer
from limbeck.data.words import Words
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation import aligned_outputs, predict_logits
from limbeck.models import load_model
from limbeck.run.folder import STUDENT, read_run
from limbeck.tasks import MaskedLM, Task, has_numbers, task_named

BATCH_SIZE = 256
SMALL_BATCH = 8
"""The images in a batch where each pixel has logits."""


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


def predict(
    folder: str | Path,
    inputs: Sequence[str | Path],
    *,
    functions: Sequence[str] = (),
    column: str | None = None,
    out: str | Path | None = None,
    max_new_tokens: int | None = None,
    with_teacher: bool = False,
) -> Iterator[Prediction]:
    """Predict images, texts or rows of tables; or have a language model continue texts, answer them or fill in their masks.

    A run folder does not decide which code runs: a student that a ``package.module:function`` made is refused unless
    ``functions`` names it.

    Args:
        folder: the folder of a finished run.
        inputs: image files; or texts, and ``.txt`` files with one text on each line. For both: folders of such files, CSV,
            JSONL and Parquet files, and "-" for the lines of the standard input. Where the student reads a table: such files
            and folders of them.
        functions: names ``package.module:function`` that may be called.
        column: the column of tables that holds the images or texts; by default the one that the run's data had, or one with a
            usual name.
        out: the folder for masks, where each pixel has a class: PNGs with the names of the images and the size of each.
        max_new_tokens: the tokens that a language model writes for each text, at most; by default 64.
        with_teacher: have the teacher of a language model write or fill in each text as well.

    Returns:
        An iterator over one prediction for each image, text or row, in the order of the inputs. An input that cannot be read
        has an ``error`` in place of a label.

    Raises:
        ConfigError: the folder holds no finished run; or an option is not for its student, such as ``column`` for one that
            reads several columns.
        DataError: nothing to predict was found, or a file or table is missing or cannot be read.
        ModelError: the student cannot be loaded.
    """
    folder = Path(folder)
    config = read_run(folder)
    model, read = load_model(folder / STUDENT, model=functions), Preprocessing.load(folder / STUDENT)
    task = task_named(read.task)
    if out is not None and task.unit != "pixel":
        raise ConfigError(f"--out: takes masks, and the student of {folder} predicts none ({task.name}). Leave it out.")
    is_language, is_masked = task.unit == "token", isinstance(task, MaskedLM)
    if (max_new_tokens is not None or with_teacher) and not is_language:
        raise ConfigError(
            f"--max-new-tokens, --with-teacher: are for language models, and the student of {folder} is none ({task.name})."
        )
    if max_new_tokens is not None and is_masked:
        raise ConfigError(f"--max-new-tokens: the student of {folder} fills in masks and writes no text. Leave it out.")
    columns = read.column if read.table is None else read.table.columns
    if column is not None and isinstance(columns, Sequence) and not isinstance(columns, str):
        raise ConfigError(f"--column: has no effect, the student reads the columns {', '.join(columns)}. Leave it out.")
    items = read_new_inputs(inputs, is_image=read.image is not None, column=columns, named=column)
    first = next(items, None)
    if first is None:
        raise DataError(f"{', '.join(map(str, inputs))}: nothing to predict in it.")
    items = chain([first], items)
    size = PROMPTS if is_language else BATCH_SIZE
    batches = iter(lambda: list(islice(items, size)), [])
    if is_language:
        teacher = load_teacher_of_run(config, folder, functions, task) if with_teacher else None
        if is_masked:
            return (_fill(model, teacher, read, item) for item in items)
        count = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        # a student that knows some of the teacher's tokens has a tokenizer of its own
        is_cut = config.student.from_teacher is not None and config.student.from_teacher.vocabulary is not None
        theirs = replace(read, tokenizer=load_tokenizer(config.data.tokenizer)) if is_cut and with_teacher else read
        return (p for batch in batches for p in _complete_batch(model, teacher, (read, theirs), batch, count))
    writer = None if out is None else MaskWriter(Path(out), read.values or [])
    return (prediction for batch in batches for prediction in _predict_batch(model, task, read, batch, writer))


def _fill(model: nn.Module, teacher: nn.Module | None, read: Preprocessing, item: NewInput) -> Prediction:
    """Return the likeliest token for each mask of a text, and those after it."""
    try:
        ours = fill(model, read, item.content)
        theirs = None if teacher is None else _filled(fill(teacher, read, item.content))
    except DataError as error:
        return Prediction(item.name, None, columns=item.columns, error=f"{item.name}: {error}")
    return Prediction(item.name, _filled(ours), columns=item.columns, teacher=theirs, masked=ours)


def _filled(masked: Sequence[dict[str, float]]) -> str:
    return " ".join(next(iter(tokens)).strip() for tokens in masked)


def _complete_batch(
    model: nn.Module,
    teacher: nn.Module | None,
    read: tuple[Preprocessing, Preprocessing],
    items: Sequence[NewInput],
    count: int,
) -> list[Prediction]:
    """Return what follows each text. One that cannot be read does not stop the others."""
    prompts = [item.content for item in items]
    try:
        written = complete(model, read[0], prompts, count)
        beside = [None] * len(items) if teacher is None else complete(teacher, read[1], prompts, count)
    except DataError as error:
        if len(items) == 1:
            return [Prediction(items[0].name, None, columns=items[0].columns, error=f"{items[0].name}: {error}")]
        return [p for item in items for p in _complete_batch(model, teacher, read, [item], count)]
    texts = zip(items, written, beside, strict=True)
    return [Prediction(item.name, text, columns=item.columns, teacher=theirs) for item, text, theirs in texts]


def _predict_batch(
    model: nn.Module, task: Task, read: Preprocessing, items: Sequence[NewInput], writer: MaskWriter | None
) -> list[Prediction]:
    """Return the prediction for each input. One that cannot be read does not stop the others."""
    try:
        for item in items:
            if isinstance(item.content, DataError):
                raise item.content
        batch = read([item.content for item in items])
    except DataError as error:
        if len(items) == 1:
            name = items[0].name
            told = str(error) if name in str(error) else f"{name}: {error}"
            return [Prediction(name, None, columns=items[0].columns, error=told)]
        return [prediction for item in items for prediction in _predict_batch(model, task, read, [item], writer)]
    if task.unit == "pixel":
        logits = predict_logits(model, _unlabelled(batch, len(items), task), batch_size=SMALL_BATCH)
        return [_predict_mask(task, read, item, row, writer) for item, row in zip(items, logits, strict=True)]
    if task.unit == "word":
        return _predict_tags(model, task, read, items)
    logits = predict_logits(model, _unlabelled(batch, len(items), task))
    logits = logits if read.target is None else read.target.undo(logits)
    predictions = []
    for item, row in zip(items, logits, strict=True):
        label, told = task.tell(row, read.label_names)
        probabilities, numbers = ({}, told) if has_numbers(task) else (told, {})
        predictions.append(Prediction(item.name, label, probabilities, columns=item.columns, numbers=numbers))
    return predictions


def _predict_mask(
    task: Task, read: Preprocessing, item: NewInput, logits: torch.Tensor, writer: MaskWriter | None
) -> Prediction:
    """Return what an image shows. Its logits (C, h, w) are interpolated to the size that the image has itself."""
    image = open_image(item.content)
    at_pixels = interpolate(logits[None], size=(image.height, image.width), mode="bilinear", align_corners=False)
    aligned = task.align(at_pixels)[0]
    label, shares = task.tell(aligned, read.label_names)
    mask = None if writer is None else str(writer.write(item.name, task.decide(aligned)))
    return Prediction(item.name, label, columns=item.columns, shares=shares, mask=mask)


def _predict_tags(model: nn.Module, task: Task, read: Preprocessing, items: Sequence[NewInput]) -> list[Prediction]:
    """Return the tag of each word of some texts."""
    words = [read.words(item.content) for item in items]
    loader = Words(words, read.tokenizer, read.max_length)
    examples = Examples(loader, torch.full((len(items),), IGNORE_INDEX), task=task.name)
    rows = [
        row[mask]
        for logits, targets in aligned_outputs(model, examples)
        for row, mask in zip(logits, targets.mask, strict=True)
    ]
    found = []
    for item, row, given, starts in zip(items, rows, words, loader.starts, strict=True):
        tags = [read.label_names[i] for i in task.decide(row).tolist()]
        told = zip([given[word] for word in starts], tags, task.confidence(row).tolist(), strict=True)
        found.append(Prediction(item.name, None, columns=item.columns, tags=list(told)))
    return [replace(one, label=" ".join(f"{word}/{tag}" for word, tag, _ in one.tags)) for one in found]


def _unlabelled(batch: dict[str, Any], count: int, task: Task) -> Examples:
    """Return the inputs of a batch as examples without labels."""

    def load(rows: list[int]) -> dict[str, Any]:
        return {name: value[rows] for name, value in batch.items()}

    return Examples(load, torch.full((count,), IGNORE_INDEX), task=task.name)
