"""Images in a column of a ``datasets.Dataset``: one look at the headers of all, then decoding when a batch is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any

from tqdm import tqdm

from limbeck.data.images import ImageFormat
from limbeck.data.pixels import is_grey
from limbeck.errors import DataError

ORIENTATION = 0x0112
"""The number of EXIF's entry that says which way is up."""
TURNED = (5, 6, 7, 8)
"""The values of this entry in pictures that lie on their side."""
SHOWN_FAULTS = 10
"""The most unreadable images that an error names."""
ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
"""The last bytes of a whole image, by Pillow's name of the format."""


class ColumnImages:
    """A loader of images from a column of a ``datasets.Dataset``. Images are decoded when they are asked for.

    Args:
        dataset: the data set.
        column: the column with the images.
        image: the format that images are brought into.
    """

    def __init__(self, dataset: Any, column: str, image: ImageFormat) -> None:
        self.dataset, self.column, self.image = dataset, column, image

    def __call__(self, rows: list[int]) -> dict[str, Any]:
        try:
            return {"pixel_values": self.image(self.dataset[rows][self.column])}
        except Exception:  # every decoder raises its own, and none says which image it was
            faults = [fault for row in rows if (fault := self._fault(row))]
            if not faults:
                raise
            raise DataError(*shortened(faults)) from None

    def source_bytes(self, rows: list[int]) -> Iterable[bytes]:
        """Yield the file of each image, not decoded; images of which there is no file here are decoded.

        Args:
            rows: row numbers of the data set.
        """
        cells = undecoded(self.dataset, self.column)
        for row in rows:
            content = _content(cells[row][self.column])
            yield self.image([self.dataset[row][self.column]]).numpy().tobytes() if content is None else content

    def _fault(self, row: int) -> str | None:
        """Return what is wrong with the image of a row, or None."""
        try:
            self.image([self.dataset[row][self.column]])
        except Exception as error:
            return _fault(undecoded(self.dataset, self.column)[row][self.column], row, error)
        return None


@dataclass
class ImageSurvey:
    """The sizes and colours of all images of a data set."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """How many images have a height and width, in pixels."""
    grey: int = 0
    """How many images have no colour."""
    faults: list[str] = field(default_factory=list)
    """What is wrong with each image that cannot be read."""

    @property
    def channels(self) -> int:
        """Return 1 if no image has colour, else 3."""
        return 1 if self.grey == self.sizes.total() else 3

    def notes(self, size: tuple[int, int], *, size_is_chosen: bool, channels_are_chosen: bool) -> list[str]:
        """Return what was decided where images are of several kinds.

        Args:
            size: the height and width that images are brought to.
            size_is_chosen: the user set the size.
            channels_are_chosen: the user set the channels.
        """
        notes, total = [], self.sizes.total()
        if len(self.sizes) > 1 and not size_is_chosen:
            low, high = min(self.sizes, key=_area), max(self.sizes, key=_area)
            notes.append(
                f"Images have {len(self.sizes)} sizes, from {low[0]} x {low[1]} to {high[0]} x {high[1]}; all are resized to "
                f"{size[0]} x {size[1]}, the first one's. data.image_size sets another."
            )
        if 0 < self.grey < total and not channels_are_chosen:
            notes.append(f"{self.grey} of {total} images are grey, the others have colour; all are read as colour.")
        return notes


def survey_images(tables: dict[str, Any], column: str) -> ImageSurvey:
    """Read the header of every image, and find those that are cut short.

    A PNG or a JPEG with the last bytes that it should have is not decoded. All others are.

    Args:
        tables: a ``datasets.Dataset`` for each split.
        column: the column with the images.

    Returns:
        Their sizes and colours.

    Raises:
        DataError: some images cannot be read; each is named.
    """
    survey = ImageSurvey()
    for split, table in tables.items():
        mode = getattr(table.features[column], "mode", None)
        bar = tqdm(cells_of(table, column), total=len(table), desc="Looking at images", delay=1.0, leave=False)
        for row, cell in enumerate(bar):
            try:
                with open_cell(table, column, row, cell) as image:
                    survey.sizes[_upright_size(image)] += 1
                    survey.grey += is_grey(mode or image.mode)
                    if _source(cell) is not None and not _is_whole(cell, image.format):
                        image.load()
            except Exception as error:  # every decoder raises its own
                survey.faults.append(f"data.name: {split}: {_fault(cell, row, error)}")
    if survey.faults:
        raise DataError(*shortened(survey.faults))
    return survey


def size_of_cell(table: Any, column: str, row: int, cell: Any) -> tuple[int, int]:
    """Return the height and width of an image as it stands upright, from its header.

    Args:
        table: a ``datasets.Dataset``.
        column: the column with the images.
        row: the row of the image.
        cell: what ``cells_of`` yields for it.
    """
    with open_cell(table, column, row, cell) as image:
        return _upright_size(image)


def open_cell(table: Any, column: str, row: int, cell: Any) -> Any:
    """Return the PIL image of a cell, whose pixels may not be read yet.

    Args:
        table: a ``datasets.Dataset``.
        column: the column with the images.
        row: the row of the image.
        cell: what ``cells_of`` yields for it.
    """
    from PIL import Image

    source = _source(cell)
    return table[row][column] if source is None else Image.open(source)


def _upright_size(image: Any) -> tuple[int, int]:
    # of a PNG, `getexif` decodes the whole image to look for EXIF after the pixels
    has_exif = "exif" in image.info or image.format == "TIFF"
    turned = has_exif and image.getexif().get(ORIENTATION) in TURNED
    return (image.width, image.height) if turned else (image.height, image.width)


def undecoded(dataset: Any, column: str) -> Any:
    """Return the data set with the files of its images in the place of decoded images.

    Args:
        dataset: a ``datasets.Dataset``.
        column: the column with the images.
    """
    import datasets

    return dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def cells_of(table: Any, column: str) -> Iterator[Any]:
    """Yield the undecoded cell of each row: a dictionary with "bytes" and "path", or None for an empty cell.

    Args:
        table: a ``datasets.Dataset``.
        column: the column with the images.
    """
    for batch in undecoded(table, column).iter(batch_size=64):
        yield from batch[column]


def _source(cell: Any) -> BytesIO | str | None:
    """Return what an undecoded cell can be opened from; None if its image is neither in the data set nor a file here."""
    if cell["bytes"] is not None:
        return BytesIO(cell["bytes"])
    return cell["path"] if Path(cell["path"]).is_file() else None


def _content(cell: Any) -> bytes | None:
    source = _source(cell)
    return Path(source).read_bytes() if isinstance(source, str) else source and source.getvalue()


def _is_whole(cell: Any, kind: str | None) -> bool:
    """Return True if the file of an undecoded cell ends as a whole image of its format does; False if that is not known."""
    end = ENDS.get(kind or "")
    if end is None:
        return False
    with BytesIO(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).open("rb") as file:
        file.seek(-min(len(end), file.seek(0, SEEK_END)), SEEK_END)
        return file.read() == end


def _fault(cell: Any, row: int, error: BaseException) -> str:
    """Return what is wrong with an image, which is named by its file, or else by its row."""
    if cell is None:
        return f"row {row} has no image."
    name = cell["path"] or f"the image of row {row}"
    reason = str(error).removeprefix("an image: ").partition("\n")[0] or type(error).__name__
    return f"{name}: not an image that can be read ({reason.rstrip('.')})."


def shortened(faults: list[str]) -> list[str]:
    """Return the first faults, and how many more there are.

    Args:
        faults: a line for each.
    """
    more = [f"... and {len(faults) - SHOWN_FAULTS} more."] if len(faults) > SHOWN_FAULTS else []
    return faults[:SHOWN_FAULTS] + more


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
