"""The storage of a store's files: a local folder, or a URL whose files are downloaded whole when they are needed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import xxhash

from limbeck.atomic_files import atomic_write
from limbeck.errors import StoreError

DEFAULT_ALGORITHM = "xxh3_128"
"""The checksum that is written. It finds every accident, but it is no protection against a forger."""


class Storage:
    """A local folder of files.

    Args:
        folder: the path of the folder. It need not exist.
    """

    is_local = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def location(self, name: str) -> str:
        """Return the path or URL of a file, for use in messages.

        Args:
            name: the name of the file.

        Returns:
            The path, or the URL of a ``RemoteStorage``. The file need not exist.
        """
        return str(self.folder / name)

    def exists(self) -> bool:
        """Return True if the folder exists."""
        return self.folder.is_dir()

    def sizes(self) -> dict[str, int]:
        """Return the size of every file in bytes, by file name.

        Raises:
            StoreError: a file is a link to nothing, or cannot be looked at.
        """
        sizes: dict[str, int] = {}
        for name in self.names():
            path = self.folder / name
            try:
                sizes[name] = path.stat().st_size
            except OSError as error:
                reason = "is a link to a file that is not there" if path.is_symlink() else error.strerror or error
                raise StoreError(
                    f"{path}: {reason}. Remove it, and build the store again if it was a part of it."
                ) from None
        return sizes

    def names(self) -> list[str]:
        """Return the names of all files in order, also of links to nothing.

        Raises:
            StoreError: the folder cannot be listed.
        """
        try:
            return sorted(path.name for path in self.folder.iterdir())
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be listed ({error.strerror or error}).") from None

    def size(self, name: str) -> int | None:
        """Return the size of one file.

        Args:
            name: the name of the file.

        Returns:
            The size in bytes, or None if there is no such file.
        """
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None

    def fetch(self, name: str, expected_checksum: str = "") -> Path:
        """Return the local path of a file, after downloading it if the storage is remote.

        Args:
            name: the name of the file.
            expected_checksum: what ``file_checksum`` returns for a correct download; "" skips this check. It is ignored for
                local files, whose checksums ``verify`` compares.

        Returns:
            The path of the whole file in the local folder.
        """
        return self.folder / name

    def publish(self, name: str) -> None:
        """Upload a file that was written to ``folder``; local storage has nothing to do.

        Args:
            name: the name of the file.
        """

    def create_folder(self) -> None:
        """Create the local folder.

        Raises:
            StoreError: the folder cannot be created.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be made ({error.strerror or error}).") from None


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``$LIMBECK_CACHE``, or ``~/.cache/limbeck``."""
    return Path(os.environ.get("LIMBECK_CACHE", Path.home() / ".cache" / "limbeck"))


class RemoteStorage(Storage):
    """Files behind a URL that fsspec knows (s3://, gs://, hf://, ...), and a local folder for their downloads.

    Args:
        url: the URL of the store.
        cache: the folder that holds the downloads of all URLs; by default ``$LIMBECK_CACHE``, or ``~/.cache/limbeck``.

    Raises:
        StoreError: the URL's protocol is unknown, or its package is not installed.
    """

    is_local = False

    def __init__(self, url: str, cache: Path | None = None) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise StoreError(f"{url}: {error}") from None
        self.url = url.rstrip("/")
        super().__init__((cache or cache_folder()) / "stores" / xxhash.xxh3_128_hexdigest(self.url.encode()))
        self._sizes: dict[str, int] | None = None

    def __str__(self) -> str:
        return self.url

    def location(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.url}/{name}"

    def exists(self) -> bool:
        """Return True if there is at least one file, since object stores have no empty folders."""
        return bool(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Return the size of every file in bytes, by file name; the URL is listed once.

        Raises:
            StoreError: the URL cannot be listed.
        """
        if self._sizes is None:
            try:
                found: list[dict[str, Any]] = self._files.ls(self._root, detail=True, refresh=True)
            except FileNotFoundError:
                found = []
            except Exception as error:  # every file system raises its own
                raise StoreError(f"{self.url}: cannot be listed ({first_line(error)}).") from None
            self._sizes = {str(file["name"]).rpartition("/")[2]: int(file["size"] or 0) for file in found}
        return self._sizes

    def names(self) -> list[str]:
        """Return the names of all files in order."""
        return sorted(self.sizes())

    def size(self, name: str) -> int | None:
        """Return the size of one file in bytes, or None if there is no such file."""
        return self.sizes().get(name)

    def fetch(self, name: str, expected_checksum: str = "") -> Path:
        """Download a file, unless a copy with the expected checksum was downloaded before, and return its local path.

        Raises:
            FileNotFoundError: there is no such file.
            StoreError: the file cannot be downloaded, or its checksum is wrong.
        """
        path, url = self.folder / name, self.location(name)
        algorithm = expected_checksum.partition(":")[0]
        if self.size(name) is None:
            raise FileNotFoundError(url)
        if expected_checksum and path.is_file() and file_checksum(path, algorithm) == expected_checksum:
            return path
        try:
            with atomic_write(path) as temporary:
                self._files.get_file(f"{self._root}/{name}", str(temporary))
        except Exception as error:  # every file system raises its own
            raise StoreError(f"{url}: cannot be fetched ({first_line(error)}).") from None
        if expected_checksum and (found := file_checksum(path, algorithm)) != expected_checksum:
            raise StoreError(f"{url}: its checksum is {found}, expected {expected_checksum}.")
        return path

    def publish(self, name: str) -> None:
        """Upload a file that was written to the local folder.

        Raises:
            StoreError: the file cannot be uploaded.
        """
        path = self.folder / name
        try:
            self._files.makedirs(self._root, exist_ok=True)
            self._files.put_file(str(path), f"{self._root}/{name}")
        except Exception as error:  # every file system raises its own
            raise StoreError(f"{self.location(name)}: cannot be written ({first_line(error)}).") from None
        self.sizes()[name] = path.stat().st_size


def open_storage(store: str | Path | Storage, cache: Path | None = None) -> Storage:
    """Return the storage that a path or URL names.

    Args:
        store: a path, a URL, or a storage, which is returned as it is.
        cache: the folder for downloads, as in ``RemoteStorage``.

    Returns:
        A ``RemoteStorage`` if ``store`` is a text with "://" in it, else a ``Storage``.

    Raises:
        StoreError: the URL's protocol is unknown, or its package is not installed.
    """
    if isinstance(store, Storage):
        return store
    return RemoteStorage(store, cache) if isinstance(store, str) and "://" in store else Storage(Path(store))


def file_checksum(path: Path, algorithm: str = DEFAULT_ALGORITHM) -> str:
    """Return the checksum of a file's content, with the algorithm's name before it.

    Args:
        path: the file.
        algorithm: "xxh3_128", or "sha256" for stores whose owner fears a forger.

    Returns:
        A text such as "xxh3_128:99aa06d3014798d86001c324468d497f"; "NAME: unknown" for another algorithm, which equals no
        checksum.
    """
    known = {DEFAULT_ALGORITHM: xxhash.xxh3_128, "sha256": hashlib.sha256}
    if algorithm not in known:
        return f"{algorithm}: unknown"
    digest = known[algorithm]()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class's name if it has no text.

    Args:
        error: any exception.

    Returns:
        One line that fits into a message.
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__
