"""Stores behind a URL: a shard is downloaded when it is first needed, and uploaded when it is whole."""

import shutil
import uuid

import fsspec
import pytest
import torch

from limbeck.errors import StoreError
from limbeck.store import Hidden, StoredTeacher, TeacherStore, TopK, is_store, verify
from support.stores import build, contents, live

IDS = torch.tensor([49, 0, 16, 15, 15, 31])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url():
    """Return a URL of a file system in memory, which has no local paths and no empty folders."""
    return f"memory://bucket-{uuid.uuid4().hex}/store"


def files(url):
    """Return the bytes of every file behind a URL, by name."""
    system, root = fsspec.core.url_to_fs(url)
    return {path.rpartition("/")[2]: system.cat_file(path) for path in system.ls(root, detail=False)}


def downloaded(cache):
    """Return the names of the shards that were downloaded."""
    return sorted(path.name for path in cache.rglob("*.arrow"))


def test_a_remote_store_has_the_same_bytes_as_a_local_one(url, tmp_path):
    for codec, where in ((TopK(5), url), (Hidden("float32"), f"{url}-hidden")):
        build(where, codec)
        build(tmp_path / codec.name, codec)
        assert files(where) == contents(tmp_path / codec.name)
        assert verify(where) == []


def test_shards_are_downloaded_when_they_are_needed(url, cache, tmp_path):
    build(tmp_path / "here")
    system, root = fsspec.core.url_to_fs(url)
    system.put(str(tmp_path / "here"), root, recursive=True)
    teacher = StoredTeacher(url)
    assert is_store(url)
    assert downloaded(cache) == []
    torch.testing.assert_close(teacher({"example_id": IDS[1:2]}).logits, live(IDS[1:2]))
    assert downloaded(cache) == ["000000000000-000000000016.arrow"]
    torch.testing.assert_close(teacher({"example_id": IDS}).logits, live(IDS))
    assert len(downloaded(cache)) == 3


def test_a_shard_is_downloaded_once_unless_its_copy_changed(url, cache, monkeypatch):
    build(url)
    TeacherStore(url).look_up(IDS)
    fetched = []
    system, _ = fsspec.core.url_to_fs(url)
    get = type(system).get_file
    monkeypatch.setattr(
        type(system), "get_file", lambda self, name, to, **k: (fetched.append(name), get(self, name, to))[1]
    )
    TeacherStore(url).look_up(IDS)
    assert not [name for name in fetched if name.endswith(".arrow")]
    shard = next(path for path in cache.rglob("*.arrow"))
    shard.write_bytes(b"x" * shard.stat().st_size)  # damage the downloaded shard
    torch.testing.assert_close(TeacherStore(url).look_up(IDS).logits, live(IDS))
    assert [name for name in fetched if name.endswith(".arrow")] == [f"{fsspec.core.url_to_fs(url)[1]}/{shard.name}"]


def test_an_interrupted_build_is_continued(url):
    build(url)
    whole = files(url)
    system, root = fsspec.core.url_to_fs(url)
    for name in ("000000000016-000000000032.json", "000000000048-000000000050.arrow"):
        system.rm_file(f"{root}/{name}")
    assert [fault.partition(" ")[0] for fault in verify(url)] == [
        f"{url}/000000000016-000000000032.json:", f"{url}/000000000048-000000000050.arrow:",
    ]  # fmt: skip
    with pytest.raises(StoreError, match=r"2 of 4 shards are missing"):
        TeacherStore(url)
    assert build(url).written == 2
    assert files(url) == whole


def test_a_flipped_bit_in_a_remote_store_is_found_and_named(url, cache):
    build(url)
    system, root = fsspec.core.url_to_fs(url)
    name = "000000000016-000000000032.arrow"
    data = bytearray(system.cat_file(f"{root}/{name}"))
    data[-100] ^= 1
    system.pipe_file(f"{root}/{name}", bytes(data))
    TeacherStore(url).look_up(IDS)  # reads the local copy, which is whole
    assert [fault.partition(": ")[0] for fault in verify(url)] == [f"{url}/{name}"]
    shutil.rmtree(cache)
    with pytest.raises(StoreError, match=rf"{name}: its checksum is"):
        TeacherStore(url).look_up(IDS)


def test_a_missing_place_is_named(url):
    assert not is_store(url)
    with pytest.raises(StoreError, match=r"memory://.*: there is no such folder"):
        TeacherStore(url)
    with pytest.raises(StoreError, match=r"nosuch://bucket: .*nosuch"):
        TeacherStore("nosuch://bucket")
    assert verify(url) == [f"{url}: there is no such folder."]
