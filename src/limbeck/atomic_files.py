"""Files and folders that appear whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces ``path`` when the block ends without an error.

    Args:
        path: the file to write. Its folder is created if it is missing. A file that is there already stays as it is until
            the block ends, and after an error.

    Yields:
        The temporary path, in the same folder. The block must create this file.

    Raises:
        FileNotFoundError: the block created no file.
        OSError: the folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def durable_write(path: Path) -> Iterator[Path]:
    """Do what ``atomic_write`` does, and flush the file to the disk before it replaces ``path``.

    Use it for files that must be whole after a crash of the machine. The temporary name is always the same, so that the
    next attempt overwrites what a killed process left. Two processes must therefore not write the same file at once.

    Args:
        path: the file to write. Its folder must exist.

    Yields:
        The temporary path, in the same folder. The block must create this file.

    Raises:
        FileNotFoundError: the block created no file, or the folder does not exist.
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(path)
        _flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_files(folder: Path, *, keep: Collection[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder, whose files are moved to ``folder`` when the block ends without an error.

    A moved file replaces the file of the same name, each in one step, so no file is ever half-written. All other files in
    ``folder`` stay: they may belong to somebody else.

    Args:
        folder: the folder that gets the files. It is created if it is missing, and not left behind without files.
        keep: paths relative to ``folder`` that are not replaced if they exist already.

    Yields:
        The temporary folder, which is empty and lies within ``folder``.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    temporary = folder / f".writing.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for written in sorted(path for path in temporary.rglob("*") if path.is_symlink() or not path.is_dir()):
            name = written.relative_to(temporary)
            target = folder / name
            if str(name) not in keep or not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                written.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for path in missing:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def append_line(path: Path, value: Any) -> None:
    """Add a value as one line of JSON to the end of a file, and flush it to the disk.

    A last line without a line break was cut short by a crash. It is removed first.

    Args:
        path: the file. It is created if it is missing; its folder must exist.
        value: anything that ``json`` can write.

    Raises:
        TypeError: ``json`` cannot write the value.
        OSError: the file cannot be written.
    """
    if path.is_file():
        whole = path.read_bytes().rfind(b"\n") + 1
        if whole < path.stat().st_size:
            os.truncate(path, whole)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """Return the values that ``append_line`` wrote to a file.

    Args:
        path: the file. It may be missing.

    Returns:
        The values in the order of writing, without a last line that was cut short. Empty if there is no such file.

    Raises:
        ValueError: a line is not JSON, or the file is not UTF-8.
    """
    if not path.is_file():
        return []
    whole_lines = path.read_bytes().split(b"\n")[:-1]  # a crash may also have cut the last line within a letter
    return [json.loads(line) for line in whole_lines if line]


def write_text(path: Path, text: str) -> None:
    """Write a text file as ``atomic_write`` does.

    Args:
        path: the file. Its folder is created if it is missing.
        text: the content, which is written in UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file as ``atomic_write`` does.

    Args:
        path: the file. Its folder is created if it is missing.
        value: anything that ``json`` can write.

    Raises:
        TypeError: ``json`` cannot write the value.
        OSError: the file cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Args:
        path: the file, such as ``write_json`` wrote it.
    """
    return json.loads(path.read_text(encoding="utf-8"))
