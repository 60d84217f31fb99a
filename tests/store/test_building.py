"""Building a store: shards are whole or missing, several processes write the same bytes, other stores stay as they are."""

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ArgumentError, StoreError
from limbeck.store import Dense, TeacherStore, build_store, verify
from support.stores import CLASSES, build, contents, every_codec, examples, teacher


def test_again_does_nothing(tmp_path):
    assert (build(tmp_path).written, contents(tmp_path)) == (4, contents(tmp_path))
    before = contents(tmp_path)
    again = build(tmp_path)
    assert (again.written, again.found) == (0, 4)
    assert contents(tmp_path) == before


@every_codec
def test_processes_share_the_work_and_the_bytes_are_the_same(tmp_path, codec):
    build(tmp_path / "one", codec)
    for rank in (2, 0, 1):
        build(tmp_path / "three", codec, rank=rank, world_size=3)
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


def test_a_hole_is_filled(tmp_path):
    build(tmp_path)
    before = contents(tmp_path)
    for path in sorted(tmp_path.iterdir())[2:4]:
        path.unlink()
    with pytest.raises(StoreError, match=r"1 of 4 shards are missing, 000000000016-000000000032\.arrow first"):
        TeacherStore(tmp_path)
    assert build(tmp_path).written == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("change", ["teacher", "data", "codec"])
def test_the_store_of_something_else_is_left_alone(tmp_path, change):
    build(tmp_path)
    before = contents(tmp_path)
    model = teacher(1 if change == "teacher" else 0)
    data = examples(seed=1 if change == "data" else 0)
    with pytest.raises(StoreError, match=rf"holds the store of something else \({change}: .* there, .* here\)"):
        build_store(model, data, tmp_path, Dense("float16" if change == "codec" else "float32"), shard_rows=16)
    assert contents(tmp_path) == before


def test_shards_of_another_size_are_not_mixed_in(tmp_path):
    """Their files have other names, so that neither build would see the other's."""
    build(tmp_path, shard_rows=16)
    with pytest.raises(StoreError, match=r"holds the store of something else \(shard_rows: 16 there, 10 here\)"):
        build(tmp_path, shard_rows=10)
    build(tmp_path / "other", shard_rows=10)
    for path in (tmp_path / "other").iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(StoreError, match=r"holds the store of something else \(shard_rows: "):
        TeacherStore(tmp_path)


def test_an_arrow_file_of_another_build_is_refused(tmp_path):
    build(tmp_path / "one")
    build_store(teacher(1), examples(), tmp_path / "other", Dense("float32"), shard_rows=16, batch_size=7)
    name = "000000000016-000000000032.arrow"
    assert (tmp_path / "one" / name).stat().st_size == (tmp_path / "other" / name).stat().st_size
    (tmp_path / "other" / name).replace(tmp_path / "one" / name)
    with pytest.raises(StoreError, match=rf"{name}: of another store than its manifest \(teacher: "):
        TeacherStore(tmp_path / "one")


class TestClassNames:
    @given(names=st.lists(st.text(), min_size=CLASSES, max_size=CLASSES), data=st.data())
    def test_they_are_kept_and_belong_to_the_store(self, tmp_path_factory, names, data):
        folder = tmp_path_factory.mktemp("store")
        build(folder, class_names=names)
        assert TeacherStore(folder).description.class_names == tuple(names)
        others = data.draw(st.permutations(names))
        if others != names:
            with pytest.raises(StoreError, match="holds the store of something else"):
                build(folder, class_names=others)

    def test_a_name_for_each_column(self, tmp_path):
        with pytest.raises(StoreError, match="class_names: the teacher has 37 output columns, got 2 names") as caught:
            build(tmp_path, class_names=["a", "b"])
        assert caught.value.argument == "class_names"

    def test_long_lists_are_not_shown_whole(self, tmp_path):
        names = [f"class {i}" for i in range(CLASSES)]
        build(tmp_path, class_names=names)
        with pytest.raises(StoreError, match=r"\(class_names: class 7 is 'class 7' there, 'x' here\)"):
            build(tmp_path, class_names=[*names[:7], "x", *names[8:]])


def test_a_full_disk(tmp_path, monkeypatch):
    from limbeck.store import shards

    build(tmp_path, rank=0, world_size=4)  # one shard
    real = pa.ipc.new_stream

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.pa.ipc, "new_stream", full)
    with pytest.raises(StoreError, match=r"No space left on device\); 1 of 4 shards are whole\. Make room"):
        build(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    monkeypatch.setattr(shards.pa.ipc, "new_stream", real)
    build(tmp_path)
    assert verify(tmp_path) == []


class TestErrors:
    def test_each_example_once(self, tmp_path):
        for rows in (torch.tensor([], dtype=torch.long), torch.tensor([3, 4, 3])):
            with pytest.raises(StoreError, match="examples: expected at least one, each once") as caught:
                build_store(teacher(), examples().subset(rows), tmp_path, Dense())
            assert isinstance(caught.value, ArgumentError)
            assert caught.value.argument == "examples"
        assert not list(tmp_path.iterdir())

    def test_logits_that_the_format_cannot_hold(self, tmp_path):
        model = teacher()
        model[2].bias.data[0] = 1e6
        with pytest.raises(StoreError, match="beyond float16") as caught:
            build_store(model, examples(), tmp_path, Dense("float16"))
        assert isinstance(caught.value, ArgumentError)
        assert caught.value.argument == "dtype"
