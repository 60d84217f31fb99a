"""What the names stand for that ``limbeck predict`` is given."""

import io
import json

import pytest

from limbeck.data.new_inputs import read_new_inputs
from limbeck.errors import DataError


def texts(*given, column=None):
    return [item.content for item in read_new_inputs(given, is_image=False, column=column)]


@pytest.fixture
def folder(tmp_path):
    """A folder with the same two texts in every format."""
    import datasets

    rows = {"review": ["a, b", "None"], "stars": [1, 5]}
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "a.csv").write_text('review,stars\n"a, b",1\nNone,5\n')
    (tmp_path / "deep" / "er" / "b.jsonl").write_text(
        "".join(json.dumps(dict(zip(rows, row, strict=True))) + "\n" for row in zip(*rows.values(), strict=True))
    )
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "deep" / "er" / "c.parquet")
    (tmp_path / "deep" / "er" / "d.txt").write_text("a, b\n\nNone\n")
    (tmp_path / "deep" / "er" / "e.bin").write_bytes(b"\xff\xfe")
    return tmp_path


@pytest.mark.parametrize("name", ["deep/a.csv", "deep/er/b.jsonl", "deep/er/c.parquet", "deep/er/d.txt"])
def test_every_format_gives_the_same_texts(folder, name):
    assert texts(folder / name) == ["a, b", "None"]


def test_a_folder_is_all_its_files_at_any_depth(folder):
    assert texts(folder) == ["a, b", "None"] * 4


def test_other_columns_are_kept(folder):
    items = list(read_new_inputs([folder / "deep" / "a.csv"], is_image=False))
    assert [item.columns for item in items] == [{"stars": 1}, {"stars": 5}]


def test_the_column_that_the_student_was_trained_on_comes_first(tmp_path):
    (tmp_path / "a.csv").write_text("text,said\nwrong,right\n")
    assert texts(tmp_path / "a.csv") == ["wrong"]
    assert texts(tmp_path / "a.csv", column="said") == ["right"]


def test_the_column_that_the_user_names_must_be_there(tmp_path):
    (tmp_path / "a.csv").write_text("text,said\nwrong,right\n")
    items = read_new_inputs([tmp_path / "a.csv"], is_image=False, column="text", named="said")
    assert [item.content for item in items] == ["right"]
    with pytest.raises(DataError, match=r"a\.csv: no column 'sad'; there are text, said"):
        next(read_new_inputs([tmp_path / "a.csv"], is_image=False, named="sad"))


def test_a_broken_line_does_not_stop_the_others(tmp_path):
    lines = ['{"text": "a", "n": 1}', '{"text": "b"', "", "[3]", '{"text": "c", "n": "two"}', "{}"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    first, broken, no_object, third, empty = (
        item.content for item in read_new_inputs([tmp_path / "a.jsonl"], is_image=False)
    )
    assert (first, third, empty) == ("a", "c", None)
    assert "a.jsonl, line 2: no JSON (Expecting ',' delimiter" in str(broken)
    assert "a.jsonl, line 4: expected an object as {...}, got '[3]'" in str(no_object)


def test_a_table_without_such_a_column(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"a\.csv: none of the columns x, y"):
        texts(tmp_path / "a.csv", column="said")


def test_an_empty_cell_is_told_and_not_read_as_a_text(tmp_path):
    (tmp_path / "a.csv").write_text("text,id\n,1\nb,2\n")
    first, second = read_new_inputs([tmp_path / "a.csv"], is_image=False)
    assert first.content is None
    assert first.name.endswith("a.csv, row 0")
    assert second.content == "b"


def test_texts_and_the_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    assert texts("and/or", "-", "a film.") == ["and/or", "one", "two", "a film."]


@pytest.mark.parametrize("name", ["absent.csv", "absent.txt", "photo.PNG", "./reviews", "/no/such/folder"])
def test_a_name_that_looks_like_a_file_is_no_text(name):
    with pytest.raises(DataError, match=r"no such file\. If this is a text"):
        texts(name)


def test_every_fault_is_told_before_anything_is_read(tmp_path):
    (tmp_path / "a.bin").touch()
    with pytest.raises(DataError) as error:
        texts("absent.csv", tmp_path / "a.bin", "absent.txt")
    assert [str(fault).split(":")[0].split("/")[-1] for fault in str(error.value).splitlines()] == [
        "absent.csv",
        "a.bin",
        "absent.txt",
    ]


def test_files_that_are_broken(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for name in ("a.txt", "a.parquet"):
        with pytest.raises(DataError, match=name):
            texts(tmp_path / name)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_text_is_not_the_folder_that_one_is_in(name):
    with pytest.raises(DataError, match="an empty name or text"):
        texts(name)
