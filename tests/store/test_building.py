"""Building a store: shards are whole or missing, several processes write the same bytes, other stores stay as they are."""

import pyarrow as pa
import pytest
import torch

from limbeck.errors import ArgumentError, StoreError
from limbeck.store import Dense, TeacherStore, build_store, verify
from support.stores import build, contents, every_codec, examples, teacher


def test_a_second_build_writes_nothing(tmp_path):
    assert (build(tmp_path).written, contents(tmp_path)) == (4, contents(tmp_path))
    before = contents(tmp_path)
    again = build(tmp_path)
    assert (again.written, again.found) == (0, 4)
    assert contents(tmp_path) == before


@every_codec
def test_several_processes_write_the_same_bytes_as_one(tmp_path, codec):
    build(tmp_path / "one", codec)
    for rank in (2, 0, 1):
        build(tmp_path / "three", codec, rank=rank, world_size=3)
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


def test_missing_files_are_written_again(tmp_path):
    build(tmp_path)
    before = contents(tmp_path)
    for path in sorted(tmp_path.iterdir())[2:4]:
        path.unlink()
    with pytest.raises(StoreError, match=r"1 of 4 shards are missing, 000000000016-000000000032\.arrow first"):
        TeacherStore(tmp_path)
    assert build(tmp_path).written == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("change", ["teacher", "data", "codec"])
def test_a_store_of_another_teacher_data_or_codec_stays_as_it_is(tmp_path, change):
    build(tmp_path)
    before = contents(tmp_path)
    model = teacher(1 if change == "teacher" else 0)
    data = examples(seed=1 if change == "data" else 0)
    with pytest.raises(StoreError, match=rf"holds the store of something else \({change}: .* there, .* here\)"):
        build_store(model, data, tmp_path, Dense("float16" if change == "codec" else "float32"), shard_rows=16)
    assert contents(tmp_path) == before


def test_a_full_disk_leaves_whole_shards(tmp_path, monkeypatch):
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
    def test_no_examples_or_an_example_twice(self, tmp_path):
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
