"""How a new image, text or row becomes a batch. It is saved beside a student, so that predicting needs no data set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.atomic_files import write_json
from limbeck.data.images import ImageFormat
from limbeck.data.number_format import NumberFormat
from limbeck.data.tables import INPUTS, TableFormat
from limbeck.data.texts import Texts, load_tokenizer
from limbeck.data.words import Words
from limbeck.errors import DataError

PREPROCESSING_FILE = "inputs.json"


@dataclass(frozen=True)
class Preprocessing:
    """How inputs are fed to a student, as images of one format, as texts or as rows, and the names of its classes."""

    label_names: list[str]
    """The names of the classes, in the order of the logits."""
    image: ImageFormat | None = None
    """The format of the images; None where the inputs are texts."""
    tokenizer: Any = None
    """The fast tokenizer of Transformers for texts; None where the inputs are images."""
    max_length: int = 128
    """The number of tokens after which a text is cut off."""
    task: str = "classification"
    """What the student's outputs are for: the name of one of ``limbeck.tasks.TASKS``."""
    column: str | list[str] | None = None
    """The column of the data set that held the inputs, or the two columns of pairs of texts; None where there was none, and of
    a table."""
    table: TableFormat | None = None
    """The format of the rows of a table; None where the inputs are images or texts."""
    values: list[int] | None = None
    """The value of each class in masks; None where examples have no masks."""
    target: NumberFormat | None = None
    """How the numbers that the student returns are standardised; None where its outputs are no numbers of a regression."""
    chat: bool = False
    """Whether the inputs of a language model are chats, which the tokenizer's template writes."""

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        """Turn inputs into a batch.

        Args:
            items: image files, PIL images or arrays of pixels from 0 to 255; or texts, or lists of words where each has a tag;
                or rows of a table, or pairs of texts, each a dictionary of its cells by column. A pair may also be a tuple.

        Returns:
            ``pixel_values`` (N, C, H, W) float32; or what the tokenizer returns, padded to the longest text; or ``inputs``
            (N, F) float32.

        Raises:
            DataError: an image cannot be read, an item is not a text, or a row lacks a column or has a text in the place of a
                number.
        """
        if self.image is not None:
            return {"pixel_values": self.image(items)}
        if self.table is not None:
            import pandas

            return {INPUTS: self.table(pandas.DataFrame(list(items)))}
        if self.task == "token_classification":
            return Words(list(map(self.words, items)), self.tokenizer, self.max_length)(list(range(len(items))))
        if isinstance(self.column, list):
            items = [self._pair(item, self.column) for item in items]
        elif (wrong := [item for item in items if not isinstance(item, str)]) != []:
            raise DataError(f"expected a text, got {wrong[0]!r}.")
        return Texts(list(items), self.tokenizer, self.max_length)(list(range(len(items))))

    def _pair(self, item: Any, columns: Sequence[str]) -> tuple[Any, ...]:
        """Return the two texts of a pair."""
        given = tuple(map(item.get, columns)) if isinstance(item, Mapping) else item
        if isinstance(given, tuple | list) and len(given) == len(columns) and all(isinstance(x, str) for x in given):
            return tuple(given)
        raise DataError(f"expected two texts, or a row with the columns {', '.join(columns)}, got {item!r}.")

    def words(self, item: Any) -> Any:
        """Return the words of an input: a text is split at white space, and a list is taken as it is.

        Args:
            item: a text, or a list of words.
        """
        return item.split() if isinstance(item, str) else item

    def save(self, folder: Path) -> None:
        """Write ``inputs.json``, and the tokenizer if there is one.

        Args:
            folder: an existing folder, such as a run's ``student/``.
        """
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))
        image = None if self.image is None else dataclasses.asdict(self.image)
        settings = {"labels": self.label_names, "image": image, "max_length": self.max_length}
        table = None if self.table is None else dataclasses.asdict(self.table)
        target = None if self.target is None else dataclasses.asdict(self.target)
        others = {
            "task": self.task, "column": self.column, "table": table, "values": self.values, "chat": self.chat,
            "target": target,
        }  # fmt: skip
        write_json(folder / PREPROCESSING_FILE, {**settings, **others})

    @classmethod
    def load(cls, folder: Path) -> Preprocessing:
        """Read what ``save`` wrote.

        Args:
            folder: the folder that was given to ``save``.

        Returns:
            The same preprocessing.

        Raises:
            DataError: ``inputs.json`` or the tokenizer is missing or broken.
        """
        path = folder / PREPROCESSING_FILE
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            labels, image, max_length = saved["labels"], saved["image"], saved["max_length"]
            task, column = saved.get("task", "classification"), saved.get("column")  # files of version 0.1 have neither
            table = None if saved.get("table") is None else TableFormat(**saved["table"])
            target = None if saved.get("target") is None else NumberFormat(**saved["target"])
            image_format = None if image is None else ImageFormat(**{**image, "size": tuple(image["size"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read ({error}). A run writes it beside its student.") from None
        tokenizer = load_tokenizer(str(folder)) if image_format is None and table is None else None
        values, chat = saved.get("values"), saved.get("chat", False)
        return cls(labels, image_format, tokenizer, max_length, task, column, table, values, target, chat)
