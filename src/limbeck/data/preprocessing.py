"""How what somebody wants predicted becomes a batch; kept beside a student, which then needs no data set to predict."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.atomic_files import write_json
from limbeck.data.images import ImageFormat
from limbeck.data.texts import Texts, load_tokenizer
from limbeck.errors import DataError

FILE = "inputs.json"


@dataclass(frozen=True)
class Inputs:
    """Images of one format, or texts for one tokenizer, and the names of the classes."""

    label_names: list[str]
    image: ImageFormat | None = None
    tokenizer: Any = None
    max_length: int = 128

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        """Images (files, PIL images or arrays) or texts -> one batch."""
        if self.image is not None:
            return {"pixel_values": self.image(items)}
        return Texts(list(items), self.tokenizer, self.max_length)(list(range(len(items))))

    def save(self, folder: Path) -> None:
        """Write ``inputs.json``, and the tokenizer where there is one."""
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))
        image = None if self.image is None else dataclasses.asdict(self.image)
        write_json(folder / FILE, {"labels": self.label_names, "image": image, "max_length": self.max_length})

    @classmethod
    def load(cls, folder: Path) -> Inputs:
        """Read what ``save`` wrote.

        Raises:
            DataError: it is missing or broken.
        """
        try:
            told = json.loads((folder / FILE).read_text(encoding="utf-8"))
            labels, image, max_length = told["labels"], told["image"], told["max_length"]
            image_format = None if image is None else ImageFormat(**{**image, "size": tuple(image["size"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder / FILE}: cannot be read ({error}). A run writes it beside its student.") from None
        tokenizer = load_tokenizer(str(folder)) if image_format is None else None
        return cls(labels, image_format, tokenizer, max_length)
