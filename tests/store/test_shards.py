"""Shards: an Arrow file that other tools can open, and a manifest that says what is in it."""

import json

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from limbeck.errors import StoreError
from limbeck.store import Dense, TopK
from limbeck.store.codecs import codec_settings
from limbeck.store.description import StoreDescription
from limbeck.store.shards import Shard, shard_of_file, split_into_shards
from limbeck.store.storage import Storage
from support.stores import build

DESCRIPTION = StoreDescription(
    codec=codec_settings(Dense("float32")), classes=3, rows=5, shard_rows=2, teacher="t", data="d"
)
LOGITS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_other_tools_open_a_shard(tmp_path):
    build(tmp_path, TopK(5))
    path = sorted(tmp_path.glob("*.arrow"))[0]
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        assert stream.read_all().num_rows == 16
    assert len(Dataset.from_file(str(path))[3]["ids"]) == 4  # 5 classes of 6 bits


def test_a_store_is_split_into_shards_of_so_many_rows(tmp_path):
    shards = split_into_shards(Storage(tmp_path), 5, 2)
    assert [(shard.start, shard.stop) for shard in shards] == [(0, 2), (2, 4), (4, 5)]
    assert shards[2].name == "000000000004-000000000005.arrow"
    assert shards[2].manifest_name == "000000000004-000000000005.json"
    for shard in shards:
        assert shard_of_file(shard.storage, shard.name) == shard == shard_of_file(shard.storage, shard.manifest_name)
    assert shard_of_file(Storage(tmp_path), "config.json") is None


def test_a_shard_is_read_as_it_was_written(tmp_path):
    shard = Shard(Storage(tmp_path), 2, 4)
    assert not shard.is_whole(DESCRIPTION)
    shard.write(np.array([7, 19]), {"logits": LOGITS}, DESCRIPTION)
    again = Shard(Storage(tmp_path), 2, 4)
    assert again.is_whole(DESCRIPTION)
    assert again.find_faults(DESCRIPTION) == []
    assert again.ids.tolist() == [7, 19]
    assert np.array_equal(again.map_columns()["logits"], LOGITS)
    manifest = json.loads((tmp_path / shard.manifest_name).read_text())
    assert manifest["rows"] == 2
    assert manifest["bytes"] == (tmp_path / shard.name).stat().st_size
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_rows_of_an_example_are_stored_together(tmp_path):
    tokens = DESCRIPTION.model_copy(update={"tokens": True})
    shard = Shard(Storage(tmp_path), 0, 2)
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    shard.write(np.array([0, 1]), {"logits": values}, tokens, np.array([1, 3]))
    columns = Shard(Storage(tmp_path), 0, 2).map_columns()
    assert columns["offsets"].tolist() == [0, 1, 4]
    assert np.array_equal(columns["logits"], values)
    assert pa.ipc.open_stream((tmp_path / shard.name).read_bytes()).read_all()["logits"].to_pylist() == [
        [[0, 1, 2]],
        [[3, 4, 5], [6, 7, 8], [9, 10, 11]],
    ]


def test_a_shard_of_another_store_is_refused_with_the_differences(tmp_path):
    shard = Shard(Storage(tmp_path), 2, 4)
    shard.write(np.array([7, 19]), {"logits": LOGITS}, DESCRIPTION)
    other = DESCRIPTION.model_copy(update={"data": "e", "classes": 4})
    assert other.differences(DESCRIPTION) == ["classes: 3 there, 4 here", "data: d there, e here"]
    with pytest.raises(
        StoreError, match=r"holds the store of something else \(classes: 3 there, 4 here; data: d there"
    ):
        shard.is_whole(other)
    assert "of another store (classes: 3 there, 4 here" in shard.find_faults(other)[0]


def test_a_column_of_a_wrong_shape_is_not_written(tmp_path):
    with pytest.raises(StoreError, match=r"logits: expected shape \(2, 3\), got \(1, 3\)"):
        Shard(Storage(tmp_path), 2, 4).write(np.array([7, 19]), {"logits": LOGITS[:1]}, DESCRIPTION)
    assert not list(tmp_path.iterdir())
