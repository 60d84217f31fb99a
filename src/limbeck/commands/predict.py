"""``limbeck predict``: predict new inputs with a run's student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, tee
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.data.masks import MaskWriter
from limbeck.data.new_inputs import NewInput, read_new_inputs
from limbeck.data.texts import load_tokenizer
from limbeck.errors import ConfigError, DataError
from limbeck.inference import Prediction, Predictor, load
from limbeck.inference.completion import MAX_NEW_TOKENS, load_teacher_of_run
from limbeck.models import saved_tokenizer
from limbeck.run.folder import read_run
from limbeck.tasks import MaskedLM


def predict(
    folder: str | Path,
    inputs: Sequence[str | Path],
    *,
    functions: Sequence[str] = (),
    column: str | None = None,
    out: str | Path | None = None,
    max_new_tokens: int | None = None,
    with_teacher: bool = False,
    calibrated: bool = False,
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
        calibrated: multiply logits by the scale that ``limbeck calibrate`` found.

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
    predictor = load(folder, calibrated=calibrated, functions=functions)
    task, read = predictor.task, predictor.preprocessing
    if out is not None and task.unit != "pixel":
        raise ConfigError(f"--out: takes masks, and the student of {folder} predicts none ({task.name}). Leave it out.")
    if (max_new_tokens is not None or with_teacher) and task.unit != "token":
        raise ConfigError(
            f"--max-new-tokens, --with-teacher: are for language models, and the student of {folder} is none ({task.name})."
        )
    if max_new_tokens is not None and isinstance(task, MaskedLM):
        raise ConfigError(f"--max-new-tokens: the student of {folder} fills in masks and writes no text. Leave it out.")
    columns = read.column if read.table is None else read.table.columns
    if column is not None and isinstance(columns, Sequence) and not isinstance(columns, str):
        raise ConfigError(f"--column: has no effect, the student reads the columns {', '.join(columns)}. Leave it out.")
    items = read_new_inputs(inputs, is_image=read.image is not None, column=columns, named=column)
    first = next(items, None)
    if first is None:
        raise DataError(f"{', '.join(map(str, inputs))}: nothing to predict in it.")
    config = read_run(folder)
    teacher = load_teacher_of_run(config, folder, functions, task) if with_teacher else None
    count = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
    writer = None if out is None else MaskWriter(Path(out), read.values or [])
    items = chain([first], items)
    if teacher is None:
        answers = predictor.answers(items, max_new_tokens=count)
        return (_told(predictor, item, answer, writer) for item, answer in answers)
    ours, theirs = tee(items)
    answers = predictor.answers(ours, max_new_tokens=count)
    # a student that knows some of the teacher's tokens, or others, has a tokenizer of its own
    is_cut = config.student.from_teacher is not None and config.student.from_teacher.vocabulary is not None
    own = saved_tokenizer(teacher) if config.distillation.alignment else None
    own = load_tokenizer(config.data.tokenizer) if is_cut else own
    other = Predictor(teacher, read if own is None else replace(read, tokenizer=own))
    beside = other.answers(theirs, max_new_tokens=count)
    return (
        replace(predictor.tell(item, answer), teacher=other.tell(item, written).label)
        for (item, answer), (_, written) in zip(answers, beside, strict=True)
    )


def _told(predictor: Predictor, item: NewInput, answer: Any, writer: MaskWriter | None) -> Prediction:
    """Return an answer in words, after writing its mask."""
    told = predictor.tell(item, answer)
    if writer is None or not isinstance(answer, Tensor):
        return told
    return replace(told, mask=str(writer.write(item.name, predictor.task.decide(answer))))
