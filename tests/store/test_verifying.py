"""Damaged, forged and interrupted stores: every fault is found, and an interrupted build ends with the same bytes."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import StoreError
from limbeck.store import TeacherStore, TopK, build_store, verify
from limbeck.store.ids import encode_ids
from support.stores import build, contents, examples, teacher

LARGE = 2**60 + np.arange(16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a whole store, which tests leave as it was."""
    folder = tmp_path_factory.mktemp("store")
    build(folder, TopK(5))
    assert verify(folder) == []
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    """Return a copy of the store that a test may change."""
    for name, data in contents(folder).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


class TestDamage:
    @given(data=st.data())
    def test_every_flipped_bit_is_found_and_named(self, folder, data):
        path = data.draw(st.sampled_from(sorted(folder.iterdir())))
        whole = path.read_bytes()
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(broken))
        try:
            faults = verify(folder)
            same = path.suffix == ".json" and _same_json(bytes(broken), whole)
            assert same or any(path.stem in fault for fault in faults)
        finally:
            path.write_bytes(whole)

    @given(data=st.data())
    def test_every_cut_is_found_when_the_store_is_opened(self, folder, data):
        path = data.draw(st.sampled_from(sorted(folder.iterdir())))
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 2))])
        try:
            with pytest.raises(StoreError):
                TeacherStore(folder)
            assert any(path.stem in fault for fault in verify(folder))
        finally:
            path.write_bytes(whole)

    def test_missing_foreign_and_unknown_files_are_named(self, copy, tmp_path_factory):
        names = sorted(path.name for path in copy.glob("*.arrow"))
        (copy / names[1]).unlink()
        (copy / "notes.txt").write_text("hello")
        other = tmp_path_factory.mktemp("other")
        build_store(teacher(1), examples(), other, TopK(5), shard_rows=16)
        for suffix in (".arrow", ".json"):
            name = names[2].replace(".arrow", suffix)
            (copy / name).write_bytes((other / name).read_bytes())
        faults = "\n".join(verify(copy))
        assert f"{names[1]}: missing" in faults
        assert "notes.txt: is no part of a store" in faults
        assert f"{names[2].removesuffix('.arrow')}.json: of another store (teacher: " in faults
        with pytest.raises(StoreError):
            TeacherStore(copy)

    @pytest.mark.parametrize(
        "change",
        [
            dict(rows=17), dict(bytes=3), dict(rows=2**60), dict(rows="many"), dict(path="/etc/passwd"), dict(checksum="md5:1"),
            dict(ids="x"), dict(ids="é"), dict(ids=encode_ids(np.arange(17))), dict(ids=encode_ids(np.arange(15))),
            dict(ids=encode_ids(np.arange(16)[::-1])), dict(ids=encode_ids(np.arange(16) - 1)), dict(ids=encode_ids(LARGE)),
            dict(ids=encode_ids(np.arange(16)) + "AAAA"),
        ],
        ids=str,
    )  # fmt: skip
    def test_a_forged_manifest_is_found(self, copy, change):
        path = sorted(copy.glob("*.json"))[0]
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert verify(copy) != []
        if "checksum" not in change:
            with pytest.raises(StoreError):
                TeacherStore(copy)

    @pytest.mark.parametrize(
        "change", [dict(classes=2**40), dict(classes=3), dict(shard_rows=0), dict(version=9), dict(codec={"format": "pickle"})],
        ids=str,
    )  # fmt: skip
    def test_a_forged_description_is_refused(self, copy, change):
        for path in copy.glob("*.json"):
            manifest = json.loads(path.read_text())
            manifest["description"] |= change
            path.write_text(json.dumps(manifest))
        with pytest.raises(StoreError):
            TeacherStore(copy)

    def test_forged_ids_are_refused_when_they_are_read(self, copy):
        path = sorted(copy.glob("*.arrow"))[0]
        with pa.ipc.open_stream(path.read_bytes()) as stream:
            batch = stream.read_next_batch()
        packed = np.full((16, batch.column("ids").type.list_size), 255, np.uint8)
        columns = {name: batch.column(name) for name in batch.schema.names}
        columns["ids"] = pa.FixedSizeListArray.from_arrays(pa.array(packed.reshape(-1)), packed.shape[1])
        forged = pa.record_batch(list(columns.values()), names=list(columns)).replace_schema_metadata(
            batch.schema.metadata
        )
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, forged.schema) as stream:
            stream.write_batch(forged)
        manifest = path.with_suffix(".json")
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | dict(bytes=path.stat().st_size)))
        with pytest.raises(StoreError, match=r"ids: 63 is out of range for 37 classes"):
            TeacherStore(copy).look_up(torch.tensor([0]))

    @given(noise=st.binary(max_size=4000), keep=st.integers(0, 4000))
    def test_the_reader_refuses_noise_with_a_message(self, folder, noise, keep):
        path = sorted(folder.glob("*.arrow"))[0]
        whole = path.read_bytes()
        broken = (whole[:keep] + noise + whole)[: len(whole)]  # a wrong size would be refused before Arrow reads it
        path.write_bytes(broken)
        try:
            TeacherStore(folder).look_up(torch.tensor([0, 5]))
        except StoreError:
            pass
        finally:
            path.write_bytes(whole)


def _same_json(one, other):
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


BUILD = """
import sys, torch
sys.path.insert(0, {tests!r})
import support.stores as stores
rank, world = int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
stores.build(sys.argv[1], stores.TopK(5, (2.0,)), shard_rows=2, rank=rank, world_size=world)
"""


def start(folder, rank=0, world=1):
    """Start a process that builds its part of a store, and return it."""
    script = BUILD.format(tests=str(Path(__file__).parents[1]))
    return subprocess.Popen([sys.executable, "-c", script, str(folder), str(rank), str(world)], stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_builds_killed_at_random_moments_end_with_the_same_bytes(tmp_path, capsys):
    """Let two processes build, and kill one of them (SIGKILL) again and again until the store is whole."""
    torch.set_num_threads(1)
    build(tmp_path / "whole", TopK(5, (2.0,)), shard_rows=2)
    random.seed(0)
    kills = whole = 0
    for attempt in itertools.count():
        folder = tmp_path / f"killed-{attempt}"
        while True:
            processes = [start(folder, rank, 2) for rank in (0, 1)]
            deadline = time.time() + 60
            while not folder.is_dir() and time.time() < deadline:  # until it has begun to write
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.12))
            victim = processes[random.randrange(2)]
            if victim.poll() is None:
                os.kill(victim.pid, signal.SIGKILL)
                kills += 1
            for process in processes:
                process.communicate()
            left = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
            if len(left) == len(contents(tmp_path / "whole")):
                break
        for rank in (0, 1):  # an undisturbed run clears the temporary files
            process = start(folder, rank, 2)
            process.communicate()
            assert process.returncode == 0
        assert {n: b for n, b in contents(folder).items() if not n.startswith(".")} == contents(tmp_path / "whole")
        assert verify(folder) == []
        whole += 1
        if kills >= 24:
            break
    with capsys.disabled():
        print(f"\n{kills} kills, {whole} stores, all whole in the end and byte for byte the same")  # noqa: T201
