"""The ``data`` section of a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from limbeck.data.images import Augmentation
from limbeck.errors import ArgumentError, DataError
from limbeck.field_checks import check_fields

PositiveInt = Annotated[int, Field(gt=0)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


READ_BY_ALL = ("name", "labelled", "transfer")
BUILT_IN = ("digits", "fashion-mnist")
"""The data sets that are known by a name of Limbeck's own."""
READ_BY_ARRAYS = ("mean", "std", "augmentation")
READ_BY_FILES = ("validation", "test")
READ_BY_HUB = ("subset",)
READ_BY_COLUMNS = ("label_column", "group_column", "unlabelled")
READ_BY_IMAGES = (*READ_BY_COLUMNS, "image_column", "image_size", "channels", "mean", "std", "augmentation")
READ_BY_MASKS = ("masks", "classes", "ignore_index")
READ_BY_TEXTS = (*READ_BY_COLUMNS, "text_column", "tokenizer", "max_length")
READ_BY_TABLES = (*READ_BY_COLUMNS, "columns", "exclude")
READ_BY_LANGUAGE = {
    "causal_lm": ("text_column", "tokenizer", "max_length", "packing", "loss_on"),
    "masked_lm": ("text_column", "tokenizer", "max_length", "packing"),
    "encoder_decoder": ("text_column", "tokenizer", "max_length", "max_target_length"),
}
"""The fields that the data of each task of language models read."""


@dataclass(frozen=True)
class DataConfig:
    """The ``data`` section: which examples are used, how they are read, and how many of their labels are known.

    Raises:
        ArgumentError: a field has another type or is out of range, or ``mean`` or ``std`` has neither one number nor one for
            each channel.
    """

    name: str = "digits"
    """The data set: "digits" (of scikit-learn), "fashion-mnist", a Hugging Face id, a data set saved to disk, a CSV, JSONL or
    Parquet file, or a folder with one folder of images for each class. For a language model also a text file, or a folder
    of text files, each of which is a document."""
    folder: str | None = None
    """The folder with the IDX files of Fashion-MNIST. By default the folder of Debian's package is used, or else the hub."""
    validation: str | None = None
    """The file with validation examples, when ``name`` is a file. By default they are drawn from the training examples."""
    test: str | None = None
    """The file with test examples, when ``name`` is a file. By default they are drawn from the training examples."""
    subset: str | None = None
    """The subset of a data set of the hub that has several, such as "sst2" of "nyu-mll/glue"."""
    unlabelled: str | None = None
    """More training examples, whose labels are not read: a file, a folder of images, a data set saved to disk, or a Hugging
    Face id. They need the columns of the inputs. The student learns the teacher's outputs on them."""
    group_column: str | None = None
    """The column that says which examples belong together, such as those of one patient. A validation or test set that is drawn
    from the training examples takes whole groups, so that near-duplicates are not on both sides."""
    labelled: PositiveInt | Annotated[float, Field(gt=0, lt=1)] | None = None
    """How many labels of the training set are known: a number, or a fraction below 1. They are drawn class by class. By default
    all labels are known."""
    transfer: Literal["all", "labelled"] = "all"
    """The examples that the student is trained on: "all" keeps the unlabelled ones as a transfer set, "labelled" leaves them
    out."""
    text_column: str | tuple[str, str] | None = None
    """The column with the texts; or two columns, such as [premise, hypothesis], whose texts are read as a pair. By default one
    is found by its name: text, sentence, content, review or title. Of a language model it may hold texts, chats (messages)
    or token ids (input_ids), and two columns are a prompt and its completion. Of an encoder and decoder it is two columns, a
    source and its target; by default those of these names, or prompt and completion."""
    label_column: str | None = None
    """The column with the labels, or with the masks. By default it is found by its name: label, labels, class, category or
    target; mask, annotation or segmentation."""
    image_column: str | None = None
    """The column with the images. By default it is the first column of images."""
    columns: tuple[str, ...] | None = None
    """The columns of a table that are the inputs. By default all are but the labels. A data set is read as a table if these or
    ``exclude`` are named, or if it has neither images nor a ``tokenizer`` nor a column of a text's usual name."""
    exclude: tuple[str, ...] = ()
    """The columns of a table that are no inputs, such as a number of the row."""
    masks: str | None = None
    """The folder with the masks of the images in the folder ``name``, for dense prediction: for each image a PNG at the same
    place and of the same name, whose pixel values are the numbers of classes. An image without a mask is unlabelled."""
    classes: tuple[str, ...] | dict[Annotated[int, Field(ge=0)], str] | None = None
    """The names of the classes of masks, from the value 0 on; or by their values, as in {0: background, 7: road}. By default
    each value in the training masks is a class."""
    ignore_index: Annotated[int, Field(ge=0)] = 255
    """The value of pixels of a mask that have no label, unless ``classes`` names it."""
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    """The side, or [height, width], in pixels, that images are resized to: bilinear, and masks to the nearest pixel. By default
    images get the size of the first one. Those of "digits" and "fashion-mnist" keep theirs."""
    channels: Literal[1, 3] | None = None
    """The channels of the images: 1 for grey, 3 for colour. By default 1 if all images of the set are grey, else 3."""
    mean: FiniteFloat | tuple[FiniteFloat, ...] | None = None
    """The number that is subtracted from pixels between 0 and 1, or one number for each channel. By default it is
    that of the published teacher or student, where its files tell it, as they tell ``std`` and ``image_size``; else 0."""
    std: PositiveFloat | tuple[PositiveFloat, ...] | None = None
    """The number that pixels are divided by after ``mean`` is subtracted, or one number for each channel. By default it is
    found as ``mean`` is; else 1."""
    tokenizer: str | None = None
    """The Hugging Face id or the folder of the tokenizer that teacher and student share. Texts need it."""
    max_length: PositiveInt = 128
    """The number of tokens after which a text is cut off; of a language model with ``packing``, the tokens in a block."""
    max_target_length: PositiveInt | None = None
    """The number of tokens after which the target of an encoder and decoder is cut off; by default ``max_length``."""
    packing: bool | None = None
    """Of a language model: whether documents are joined into blocks of ``max_length`` tokens. Those of a causal one stay apart
    in the attention and in the loss. By default plain texts are joined; chats, pairs and rows of tokens are padded."""
    loss_on: Literal["all", "assistant", "completion"] | None = None
    """Of a language model: the tokens that count in the loss. Of a chat, the turns of the "assistant", the last of them
    ("completion"), or "all"; by default the assistant's. Of a prompt and its completion, the "completion" or "all"."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """The random changes to images in training. Teacher and student see the same changed image."""

    def __post_init__(self) -> None:
        check_fields(self)
        channels = f"{self.channels} channels" if self.channels else "1 or 3 channels"
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) not in (1, *([self.channels] if self.channels else [3])):
                raise ArgumentError(name, f"expected one number, or one for each of {channels}, got {value!r}.")


def check_all_are_read(config: DataConfig, read: Iterable[str], data_set: str) -> None:
    """Check that no setting was given that has no effect.

    Args:
        config: the settings.
        read: the names of the fields that this kind of data set reads, besides those that every data set reads.
        data_set: what was read, for messages, such as "digits, whose images are 8 x 8".

    Raises:
        DataError: a field that is not read differs from its default; one line for each.
    """
    default, known = DataConfig(), {*READ_BY_ALL, *read}
    unread = [field.name for field in dataclasses.fields(config) if field.name not in known]
    faults = [
        f"data.{name}: has no effect on {data_set}. Leave it out."
        for name in unread
        if getattr(config, name) != getattr(default, name)
    ]
    if faults:
        raise DataError(*faults)


def check_files_are_there(config: DataConfig) -> None:
    """Check that the training split is a file or a folder where other splits are named as files.

    Args:
        config: the settings.

    Raises:
        DataError: there is no such file.
    """
    named = [name for name in READ_BY_FILES if getattr(config, name) is not None]
    if named and not Path(config.name).exists():
        raise DataError(
            f"data.name: no file {config.name}. data.{named[0]} stands beside a file with the training examples; leave it out "
            "for a data set of the hub."
        )
