"""The ``data`` section of a config: which examples, how they are read, and which of their labels are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from limbeck.data.images import Augmentation

PositiveInt = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class DataConfig:
    """Which examples, how they are read, and which of their labels are known: the ``data`` section of a config."""

    name: str = "digits"
    """"digits", "fashion-mnist", a Hugging Face id, a data set saved to disk, a CSV, JSONL or Parquet file, or a folder with
    one folder of images for each class."""
    folder: str | None = None
    """The folder with the IDX files of Fashion-MNIST."""
    validation: str | None = None
    """The file with validation examples, beside a ``name`` that is a file."""
    test: str | None = None
    """The file with test examples, beside a ``name`` that is a file."""
    labelled: PositiveInt | Annotated[float, Field(gt=0, lt=1)] | None = None
    """How many true labels of the training set are known: a number, or a fraction below 1; all by default. They are drawn class
    by class."""
    transfer: Literal["all", "labelled"] = "all"
    """Which examples the student trains on: "all" keeps the unlabelled ones as a transfer set, "labelled" leaves them out."""
    text_column: str | None = None
    """The column with the texts; by default one of the usual names."""
    label_column: str | None = None
    """The column with the labels; by default one of the usual names."""
    image_column: str | None = None
    """The column with the images; by default the first image column."""
    image_size: PositiveInt | None = None
    """Height and width that images are resized to; by default the size of the first image."""
    channels: Literal[1, 3] | None = None
    """1 for grey images, 3 for colour; by default as the first image."""
    mean: float | tuple[float, ...] = 0.0
    """Subtracted from the pixels, which go from 0 to 1: one number, or one for each channel."""
    std: Annotated[float, Field(gt=0)] | tuple[Annotated[float, Field(gt=0)], ...] = 1.0
    """The pixels are divided by it after the mean is subtracted: one number, or one for each channel."""
    tokenizer: str | None = None
    """The Hugging Face id or folder of the tokenizer that teacher and student share."""
    max_length: PositiveInt = 128
    """Tokens that are kept of each text."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random views of the images, the same for teacher and student."""
