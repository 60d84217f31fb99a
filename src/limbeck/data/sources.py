"""Where examples come from: named sets, the hub, data sets saved to disk, files and folders."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.data.config import DataConfig
from limbeck.data.examples import Examples, TensorRows
from limbeck.data.images import ImageFormat, read_idx
from limbeck.data.preprocessing import Inputs
from limbeck.data.texts import Texts, load_tokenizer
from limbeck.errors import DataError
from limbeck.models import DataShape

FASHION_CLASSES = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]
FASHION_FOLDERS = ("/usr/share/datasets/fashion-mnist",)
FASHION_HUB_ID = "zalando-datasets/fashion_mnist"
FILE_FORMATS = {".csv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
TEXT_COLUMNS = ("text", "sentence", "content", "review", "title")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target")


@dataclass
class Source:
    """What a source holds before it is split: ``parts`` has "train" and perhaps "validation" and "test"."""

    parts: dict[str, Examples]
    shape: DataShape
    inputs: Inputs
    notes: list[str] = field(default_factory=list)


def read_source(config: DataConfig) -> Source:
    """Read the data set that ``config`` names.

    Raises:
        DataError: it cannot be found or read; the message says what was tried.
    """
    if config.name == "digits":
        return _digits(config)
    if config.name == "fashion-mnist":
        return _fashion_mnist(config)
    return _from_datasets(config)


def _digits(config: DataConfig) -> Source:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # scikit-learn's pixels go from 0 to 16
    images = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 16
    return _image_tensors({"train": (images, torch.from_numpy(labels))}, [str(i) for i in range(10)], config)


def _fashion_mnist(config: DataConfig) -> Source:
    tried = [config.folder] if config.folder else list(FASHION_FOLDERS)
    folder = next((Path(f) for f in tried if f and Path(f).is_dir()), None)
    if folder is None and config.folder:
        raise DataError(f"data.folder: {config.folder} is no folder. Expected the IDX files of Fashion-MNIST there.")
    if folder is None:
        try:
            return _from_datasets(replace(config, name=FASHION_HUB_ID))
        except DataError as error:
            raise DataError(
                f"data.name: fashion-mnist is neither in {', '.join(tried)} (Debian's package dataset-fashion-mnist) nor "
                f"to be had as {FASHION_HUB_ID} ({error}). Set data.folder to a folder with its IDX files."
            ) from None
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = (read_idx(folder / f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        parts[part] = (images.unsqueeze(1).float() / 255, labels)
    return _image_tensors(parts, FASHION_CLASSES, config)


def _image_tensors(parts: dict[str, tuple[Tensor, Tensor]], names: list[str], config: DataConfig) -> Source:
    _, channels, height, width = parts["train"][0].shape
    image_format = ImageFormat((height, width), channels, config.mean, config.std)
    return Source(
        {
            part: Examples(TensorRows("pixel_values", image_format.normalise(pixels)), labels)
            for part, (pixels, labels) in parts.items()
        },
        DataShape(len(names), (channels, height, width)),
        Inputs(names, image_format),
    )


def _from_datasets(config: DataConfig) -> Source:
    parts = _load_datasets(config)
    features = parts["train"].features
    image_column = config.image_column or next(
        (name for name, feature in features.items() if type(feature).__name__ == "Image"), None
    )
    label_column = _column(config.label_column, LABEL_COLUMNS, features, "label_column")
    labels, names = _encode_labels(parts, label_column)
    if image_column is not None:
        first = parts["train"][0][image_column]
        channels = config.channels or (1 if first.mode in ("1", "L", "I;16") else 3)
        height, width = (config.image_size,) * 2 if config.image_size else (first.height, first.width)
        image_format = ImageFormat((height, width), channels, config.mean, config.std)
        loaders = {part: ColumnImages(data, image_column, image_format) for part, data in parts.items()}
        shape = DataShape(len(names), (channels, height, width))
        inputs = Inputs(names, image_format)
    else:
        text_column = _column(config.text_column, TEXT_COLUMNS, features, "text_column")
        tokenizer = load_tokenizer(config.tokenizer)
        loaders = {part: Texts(list(data[text_column]), tokenizer, config.max_length) for part, data in parts.items()}
        shape = DataShape(len(names))
        inputs = Inputs(names, tokenizer=tokenizer, max_length=config.max_length)
    examples = {part: Examples(loaders[part], labels[part]) for part in parts}
    return Source(examples, shape, inputs)


class ColumnImages:
    """Loads images from a column of a ``datasets.Dataset``, decoding them when they are asked for."""

    def __init__(self, dataset: Any, column: str, image_format: ImageFormat) -> None:
        self.dataset, self.column, self.image_format = dataset, column, image_format

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        return {"pixel_values": self.image_format(self.dataset[rows][self.column])}


def _load_datasets(config: DataConfig) -> dict[str, Any]:
    import datasets
    from datasets.exceptions import DatasetsError

    path = Path(config.name)
    try:
        if path.is_file():
            loaded = _load_files(config)
        elif path.is_dir() and any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
            loaded = datasets.load_from_disk(str(path))
        elif path.is_dir():
            loaded = datasets.load_dataset("imagefolder", data_dir=str(path))
        else:
            loaded = datasets.load_dataset(config.name)
    except (OSError, ValueError, DatasetsError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"data.name: {config.name!r} cannot be read: {reason} Expected digits, fashion-mnist, a Hugging Face id, a data "
            f"set saved to disk, a {'/'.join(FILE_FORMATS)} file, or a folder with one folder of images for each class."
        ) from None
    named: dict[Any, Any] = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    parts = {str(name): data for name, data in named.items()}
    if "train" not in parts:
        raise DataError(f"data.name: {config.name!r} has no split 'train', only {', '.join(parts)}.")
    known = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}
    return {known[name]: data for name, data in parts.items() if name in known}


def _load_files(config: DataConfig) -> Any:
    import datasets

    files = {"train": config.name, "validation": config.validation, "test": config.test}
    files = {part: name for part, name in files.items() if name is not None}
    for part, name in files.items():
        if not Path(name).is_file():
            raise DataError(f"data.{part}: no file {name}.")
    suffix = Path(config.name).suffix
    if suffix not in FILE_FORMATS:
        raise DataError(f"data.name: {config.name} is not one of {', '.join(FILE_FORMATS)}.")
    return datasets.load_dataset(FILE_FORMATS[suffix], data_files=files)


def _column(given: str | None, usual: tuple[str, ...], features: Any, key: str) -> str:
    if given is not None and given not in features:
        raise DataError(f"data.{key}: no column {given!r}; there are {', '.join(features)}.")
    found = given or next((name for name in usual if name in features), None)
    if found is None:
        raise DataError(f"data.{key}: none of the columns {', '.join(features)} has a usual name; name it.")
    return found


def _encode_labels(parts: dict[str, Any], column: str) -> tuple[dict[str, Tensor], list[str]]:
    feature = parts["train"].features[column]
    if hasattr(feature, "names"):
        return {part: torch.tensor(data[column]) for part, data in parts.items()}, list(feature.names)
    values = {part: list(data[column]) for part, data in parts.items()}
    known = sorted(set(values["train"]), key=lambda value: (str(type(value)), value))
    if None in known:
        raise DataError(f"data.label_column: column {column!r} has empty cells. Every example needs a label.")
    index = {value: i for i, value in enumerate(known)}
    for part, labels in values.items():
        strange = next((label for label in labels if label not in index), None)
        if strange is not None:
            raise DataError(f"data.label_column: {part} has the label {strange!r}, which train lacks.")
    return {part: torch.tensor([index[v] for v in labels]) for part, labels in values.items()}, [str(k) for k in known]
