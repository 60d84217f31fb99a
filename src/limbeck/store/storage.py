"""Where a store's files are: a folder, or a URL of an object store, whose files are brought here whole when they are needed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import xxhash

from limbeck.atomic_files import atomic_write
from limbeck.errors import StoreError


class Place:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def __truediv__(self, name: str) -> str:
        """What a file is called in messages."""
        return str(self.folder / name)

    def exists(self) -> bool:
        """Whether there is such a folder."""
        return self.folder.is_dir()

    def sizes(self) -> dict[str, int]:
        """The bytes of every file."""
        return {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())}

    def size(self, name: str) -> int | None:
        """The bytes of one file, or None where it is not there."""
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None

    def fetch(self, name: str, expected: str = "") -> Path:
        """The file, whole and here; what is brought from elsewhere has the ``expected`` checksum."""
        return self.folder / name

    def publish(self, name: str) -> None:
        """Put a file that was written to ``folder`` where it belongs."""

    def prepare(self) -> None:
        """Make the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be made ({error.strerror or error}).") from None

    is_local = True


class RemoteStorage(Place):
    """A URL that fsspec knows (s3://, gs://, hf://, ...), and the local folder that its files are brought to.

    Args:
        url: the store's.
        cache: the folder for what is brought from every URL; by default ``$LIMBECK_CACHE``, or ``~/.cache/limbeck``.
    """

    is_local = False

    def __init__(self, url: str, cache: Path | None = None) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise StoreError(f"{url}: {error}") from None
        self.url = url.rstrip("/")
        base = cache or Path(os.environ.get("LIMBECK_CACHE", Path.home() / ".cache" / "limbeck"))
        super().__init__(base / "stores" / xxhash.xxh3_128_hexdigest(self.url.encode()))
        self._sizes: dict[str, int] | None = None

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> str:
        return f"{self.url}/{name}"

    def exists(self) -> bool:
        return bool(self.sizes())

    def sizes(self) -> dict[str, int]:
        if self._sizes is None:
            try:
                found: list[dict[str, Any]] = self._files.ls(self._root, detail=True, refresh=True)
            except FileNotFoundError:
                found = []
            except Exception as error:  # every file system raises its own
                raise StoreError(f"{self.url}: cannot be listed ({first_line(error)}).") from None
            self._sizes = {str(file["name"]).rpartition("/")[2]: int(file["size"] or 0) for file in found}
        return self._sizes

    def size(self, name: str) -> int | None:
        return self.sizes().get(name)

    def fetch(self, name: str, expected: str = "") -> Path:
        path = self.folder / name
        if self.size(name) is None:
            raise FileNotFoundError(f"{self.url}/{name}")
        if expected and path.is_file() and checksum(path, expected.partition(":")[0]) == expected:
            return path
        try:
            with atomic_write(path) as aside:
                self._files.get_file(f"{self._root}/{name}", str(aside))
        except Exception as error:
            raise StoreError(f"{self.url}/{name}: cannot be fetched ({first_line(error)}).") from None
        if expected and (found := checksum(path, expected.partition(":")[0])) != expected:
            raise StoreError(f"{self.url}/{name}: its checksum is {found}, expected {expected}.")
        return path

    def publish(self, name: str) -> None:
        path = self.folder / name
        try:
            self._files.makedirs(self._root, exist_ok=True)
            self._files.put_file(str(path), f"{self._root}/{name}")
        except Exception as error:
            raise StoreError(f"{self.url}/{name}: cannot be written ({first_line(error)}).") from None
        self.sizes()[name] = path.stat().st_size


def open_storage(store: str | Path | Place, cache: Path | None = None) -> Place:
    """The place that a path or URL names."""
    if isinstance(store, Place):
        return store
    return RemoteStorage(store, cache) if isinstance(store, str) and "://" in store else Place(Path(store))


def checksum(path: Path, algorithm: str = "xxh3_128") -> str:
    """Of a file's bytes, with the name of the algorithm before it: "xxh3_128", or "sha256" where somebody may forge."""
    known = {"xxh3_128": xxhash.xxh3_128, "sha256": hashlib.sha256}
    if algorithm not in known:
        return f"{algorithm}: unknown"
    digest = known[algorithm]()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"


def first_line(error: BaseException) -> str:
    """What an error says, for a message of one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
