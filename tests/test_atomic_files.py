"""Files and folders that appear whole or not at all, whatever interrupts the writing."""

import json
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.atomic_files import (
    append_line,
    atomic_files,
    atomic_write,
    durable_write,
    read_lines,
    write_json,
    write_text,
)

every_write = pytest.mark.parametrize("write", [atomic_write, durable_write])


class StoppedError(Exception):
    pass


def write_half(write, path, error):
    """Write half of a file or folder, then raise the error."""
    with write(path) as temporary:
        (temporary / "weights" if write is atomic_files else temporary).write_text("half of it")
        raise error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestFiles:
    @every_write
    def test_the_file_is_there_when_the_block_ends(self, tmp_path, write):
        path = tmp_path / "file"
        path.write_text("old")
        with write(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
            assert temporary.parent == path.parent  # a rename within one file system is atomic
        assert path.read_text() == "new"
        assert names(tmp_path) == ["file"]

    @every_write
    @pytest.mark.parametrize("old", [None, "old"])
    @pytest.mark.parametrize("error", [StoppedError, KeyboardInterrupt, OSError])
    def test_an_error_leaves_what_was_there_before(self, tmp_path, write, old, error):
        path = tmp_path / "file"
        if old is not None:
            path.write_text(old)
        with pytest.raises(error):
            write_half(write, path, error)
        assert names(tmp_path) == ([] if old is None else ["file"])
        assert old is None or path.read_text() == old

    @every_write
    def test_a_block_that_writes_nothing_leaves_the_old_file(self, tmp_path, write):
        path = tmp_path / "file"
        path.write_text("old")
        with pytest.raises(FileNotFoundError), write(path):
            pass
        assert path.read_text() == "old"
        assert names(tmp_path) == ["file"]

    def test_the_half_written_file_of_a_killed_process_is_overwritten(self, tmp_path):
        script = f"""
            import os, signal
            from pathlib import Path
            from limbeck.atomic_files import durable_write
            with durable_write(Path({str(tmp_path / "file")!r})) as temporary:
                temporary.write_text("half of it")
                os.kill(os.getpid(), signal.SIGKILL)
        """
        killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert names(tmp_path) == [".file.partial"]
        with durable_write(tmp_path / "file") as temporary:
            temporary.write_text("whole")
        assert names(tmp_path) == ["file"]
        assert (tmp_path / "file").read_text() == "whole"

    def test_missing_folders_are_made(self, tmp_path):
        with atomic_write(tmp_path / "a" / "b" / "file") as temporary:
            temporary.write_bytes(b"x")
        assert (tmp_path / "a" / "b" / "file").read_bytes() == b"x"

    def test_text_and_json_are_written_as_utf_8(self, tmp_path):
        write_text(tmp_path / "text", "α ≠ β\n")
        assert (tmp_path / "text").read_bytes() == "α ≠ β\n".encode()
        write_json(tmp_path / "json", {"T": [1.5, None], "α": "β"})
        assert json.loads((tmp_path / "json").read_text(encoding="utf-8")) == {"T": [1.5, None], "α": "β"}
        assert "α" in (tmp_path / "json").read_text(encoding="utf-8")
        with pytest.raises(TypeError):
            write_json(tmp_path / "json", {"T": object()})
        assert names(tmp_path) == ["json", "text"]
        assert json.loads((tmp_path / "json").read_text(encoding="utf-8"))["T"] == [1.5, None]


class TestFolders:
    def test_files_are_replaced_and_all_others_stay(self, tmp_path):
        folder = tmp_path / "model"
        for content in ("one", "two"):
            with atomic_files(folder, keep=["card"]) as temporary:
                (temporary / content).write_text(content)
                (temporary / "deep").mkdir()
                (temporary / "deep" / "both").write_text(content)
                (temporary / "card").write_text(content)
            assert names(tmp_path) == ["model"]
        assert names(folder) == ["card", "deep", "one", "two"]
        assert (folder / "deep" / "both").read_text() == "two"
        assert (folder / "card").read_text() == "one"

    @given(
        st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=4)),
        st.dictionaries(st.sampled_from("cdef"), st.binary(max_size=4)),
    )
    def test_it_is_the_union_of_what_was_there_and_what_is_written(self, before, written):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for path, content in before.items():
                (folder / path).write_bytes(content)
            with atomic_files(folder) as temporary:
                for path, content in written.items():
                    (temporary / path).write_bytes(content)
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == before | written

    def test_an_error_leaves_no_folder_that_was_made(self, tmp_path):
        with pytest.raises(StoppedError), atomic_files(tmp_path / "a" / "b"):
            raise StoppedError
        assert not list(tmp_path.iterdir())

    def test_an_error_leaves_what_was_there_before(self, tmp_path):
        folder = tmp_path / "model"
        for _ in range(2):
            with pytest.raises(StoppedError):
                write_half(atomic_files, folder, StoppedError)
            assert names(tmp_path) == []
        with atomic_files(folder) as temporary:
            (temporary / "weights").write_text("whole")
        with pytest.raises(StoppedError):
            write_half(atomic_files, folder, StoppedError)
        assert names(folder) == ["weights"]
        assert (folder / "weights").read_text() == "whole"


class TestLines:
    def test_values_come_back_in_order(self, tmp_path):
        values = [{"T": 2.0}, [1, "ä\nb"], None, "ü"]
        for i, value in enumerate(values):
            append_line(tmp_path / "lines", value)
            assert read_lines(tmp_path / "lines") == values[: i + 1]
        assert (tmp_path / "lines").read_text(encoding="utf-8").count("\n") == 4

    def test_a_missing_file_has_no_lines(self, tmp_path):
        assert read_lines(tmp_path / "lines") == []

    def test_a_line_that_was_cut_short_is_skipped_and_overwritten(self, tmp_path):
        path = tmp_path / "lines"
        append_line(path, {"a": 1})
        first = path.read_bytes()
        append_line(path, {"b": "ö"})
        both = path.read_bytes()
        for length in range(len(first), len(both)):
            path.write_bytes(both[:length])
            assert read_lines(path) == [{"a": 1}]
            append_line(path, {"c": 3})
            assert read_lines(path) == [{"a": 1}, {"c": 3}]
