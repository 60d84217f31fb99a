"""An open store: outputs are looked up by the ids of examples."""

import pytest
import torch

from limbeck.errors import StoreError
from limbeck.store import Dense, TeacherStore, build_store, is_store
from support.stores import ROWS, build, examples, live, teacher


def test_ids_are_those_of_the_examples_and_not_their_positions(tmp_path):
    some = examples().subset(torch.tensor([40, 3, 17, 9]))
    build_store(teacher(), some, tmp_path, Dense("float32"), shard_rows=2)
    store = TeacherStore(tmp_path)
    assert store.ids.tolist() == [3, 9, 17, 40]
    torch.testing.assert_close(store.look_up(torch.tensor([40, 9])).logits, live(torch.tensor([40, 9])))
    with pytest.raises(StoreError, match=r"example 10 is not in the store, which has 4 examples"):
        store.look_up(torch.tensor([3, 10]))


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no such folder"):
        TeacherStore(tmp_path / "none")
    with pytest.raises(StoreError, match="holds no shard"):
        TeacherStore(tmp_path)


def test_which_folders_are_stores(tmp_path):
    build(tmp_path / "store")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    assert is_store(tmp_path / "store")
    assert is_store(str(tmp_path / "store"))
    assert not is_store(tmp_path / "other")
    assert not is_store(tmp_path / "nowhere")
    assert not is_store("bert-base-uncased")


def test_another_teacher_or_other_examples_are_refused(tmp_path):
    build(tmp_path)
    store = TeacherStore(tmp_path)
    store.check()
    store.check(teacher=teacher(), examples=examples())
    with pytest.raises(StoreError, match=r"made from another teacher \(.* there, .* here\)\. Its weights or config"):
        store.check(teacher=teacher(1))
    with pytest.raises(StoreError, match=r"made from another data \(.* there, .* here\)\. Other examples"):
        store.check(examples=examples(seed=1))


def test_the_size_of_a_store(tmp_path):
    build(tmp_path)
    store = TeacherStore(tmp_path)
    assert len(store) == ROWS
    assert store.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
