"""The teacher store: exact to what a format promises, whole or not at all, and nobody else's."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from limbeck import distillation_loss, sparse_distillation_loss
from limbeck.errors import StoreError
from limbeck.store import (
    Dense,
    Hidden,
    Sampled,
    StoredTeacher,
    TeacherStore,
    TopK,
    build_store,
    verify,
)
from limbeck.store.bit_packing import pack_ids, unpack_ids
from limbeck.store.codecs import codec_from, codec_settings
from limbeck.store.fingerprints import fingerprint_of_examples, fingerprint_of_model
from limbeck.teachers import LiveTeacher
from support.stores import CLASSES, INPUTS, ROWS, build, contents, draw, every_codec, examples, live, teacher

IDS = torch.tensor([49, 0, 16, 15, 15, 31])


class TestFormats:
    def test_dense(self, tmp_path):
        for codec, allowed in ((Dense("float32"), 0.0), (Dense("float16"), 5e-4), (Dense("bfloat16"), 4e-3)):
            build(tmp_path / codec.dtype, codec)
            got = TeacherStore(tmp_path / codec.dtype).look_up(IDS).logits
            torch.testing.assert_close(got.float(), live(IDS), rtol=allowed, atol=1e-6)

    def test_int8_is_off_by_half_a_step_at_most(self, tmp_path):
        build(tmp_path, Dense("int8"))
        got, truth = TeacherStore(tmp_path).look_up(IDS).logits, live(IDS)
        step = (truth.amax(-1) - truth.amin(-1)) / 254
        assert ((got - truth).abs().amax(-1) <= 0.51 * step).all()

    def test_what_a_bfloat16_teacher_said_is_kept_to_the_bit(self, tmp_path):
        model = teacher().bfloat16()
        build_store(model, examples(), tmp_path, Dense("bfloat16"), shard_rows=16)
        got = TeacherStore(tmp_path).look_up(IDS).logits
        said = LiveTeacher(teacher().bfloat16())
        truth = torch.cat([said(examples().load(list(range(s, min(s + 16, ROWS))))).logits for s in range(0, ROWS, 16)])
        assert got.dtype == torch.bfloat16
        assert torch.equal(got, truth[IDS])

    @pytest.mark.parametrize("t", [1.0, 2.0, 4.0])
    def test_top_k_at_every_temperature_that_was_asked_for(self, tmp_path, t):
        build(tmp_path, TopK(5, (2.0, 4.0), "float32"))
        got = TeacherStore(tmp_path).look_up(IDS).targets
        values, ids = (live(IDS) / t).log_softmax(-1).topk(5)
        assert torch.equal(got.ids, ids)
        torch.testing.assert_close(got.at(t), values, rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match="log-normaliser at T = 3"):
            got.at(3.0)

    def test_draws(self, tmp_path):
        build(tmp_path, Sampled(5000))
        targets = TeacherStore(tmp_path).look_up(torch.tensor([3])).targets
        shares = torch.bincount(targets.ids[0], minlength=CLASSES) / 5000
        torch.testing.assert_close(shares, live(torch.tensor([3])).softmax(-1)[0], rtol=0, atol=0.03)

    @pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-6), ("float16", 2e-3), ("bfloat16", 2e-2)])
    def test_hidden_states_and_the_last_layer(self, tmp_path, dtype, allowed):
        build(tmp_path, Hidden(dtype))
        store = TeacherStore(tmp_path)
        assert store.codec == Hidden(dtype, 64)
        torch.testing.assert_close(store.look_up(IDS).logits, live(IDS), rtol=allowed, atol=allowed)
        assert verify(tmp_path) == []
        path = tmp_path / "head.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        assert [fault.partition(": ")[0] for fault in verify(tmp_path)] == [str(path)]
        path.unlink()
        with pytest.raises(StoreError, match=r"head\.safetensors: cannot be read"):
            TeacherStore(tmp_path)

    def test_hidden_states_need_a_last_layer_with_nothing_after_it(self, tmp_path):
        capped = torch.nn.Sequential(teacher(), torch.nn.Tanh())
        with pytest.raises(StoreError, match="this teacher changes them after it"):
            build_store(capped, examples(), tmp_path, Hidden())
        with pytest.raises(StoreError, match="ends in a linear layer"):
            build_store(torch.nn.Sequential(torch.nn.Tanh()), examples(), tmp_path, Hidden())
        assert not list(tmp_path.iterdir())

    @every_codec
    def test_the_loss_of_what_is_read(self, tmp_path, codec):
        """The stored teacher's loss is the live one's, to what the format promises."""
        build(tmp_path, codec)
        output, student = StoredTeacher(tmp_path)({"example_id": IDS}), draw(len(IDS), CLASSES, seed=9)
        if output.logits is not None:
            loss = distillation_loss(student, output.logits, alpha=1, temperature=2.0)
            torch.testing.assert_close(
                loss, distillation_loss(student, live(IDS), alpha=1, temperature=2.0), rtol=0.02, atol=0
            )
        else:
            t = 2.0 if 2.0 in (*output.targets.log_normalizers, output.targets.drawn_at) else 1.0
            assert sparse_distillation_loss(student, output.targets, alpha=1, temperature=t).isfinite()

    @every_codec
    def test_a_spec_is_the_codec(self, codec):
        assert codec_from(json.loads(json.dumps(codec_settings(codec)))) == codec

    @given(k=st.integers(1, 9), classes=st.integers(1, 200_000), seed=st.integers(0, 2**31))
    def test_packed_ids_come_back(self, k, classes, seed):
        ids = torch.randint(classes, (3, k), generator=torch.Generator().manual_seed(seed))
        packed = pack_ids(ids, classes)
        assert packed.shape[1] == math.ceil(k * max(1, math.ceil(math.log2(classes))) / 8)
        assert torch.equal(unpack_ids(packed, k, classes), ids)

    @every_codec
    def test_little_is_added_to_the_payload(self, tmp_path, codec):
        """The file has the id and at most a byte of rounding at a position, beside the payload."""
        columns = codec.columns(CLASSES)
        stored = sum(np.dtype(column.dtype).itemsize * column.width for column in columns)
        assert codec.payload_bytes(CLASSES) <= stored < codec.payload_bytes(CLASSES) + 1
        build(tmp_path, codec, shard_rows=ROWS)
        arrow = next(tmp_path.glob("*.arrow")).stat().st_size
        assert arrow <= ROWS * (8 + stored) + 2500  # Arrow's own: the schema, and padding to 64 bytes

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Dense("int4"), "dtype: expected one of float32"),
            (lambda: TopK(0), "k: expected at least 1"),
            (lambda: TopK(3, (1.0,)), "temperatures: expected positive numbers other than 1"),
            (lambda: Sampled(3, 0.0), "at a positive temperature"),
            (lambda: codec_from({"format": "zip"}), "format: expected one of dense, topk, sampled, hidden"),
            (lambda: codec_from({"format": "dense", "level": 3}), "format: dense cannot be made"),
        ],
    )
    def test_settings_that_cannot_be(self, make, message):
        with pytest.raises(StoreError, match=message):
            make()

    def test_values_that_a_format_cannot_hold(self):
        generator = torch.Generator()
        with pytest.raises(StoreError, match=r"beyond float16 \(65,504\)"):
            Dense("float16").encode(torch.tensor([[1e5, 0.0]]), generator)
        with pytest.raises(StoreError, match="int8 cannot hold"):
            Dense("int8").encode(torch.tensor([[-math.inf, 0.0]]), generator)
        absent = torch.tensor([[-math.inf, 1.0]])
        assert torch.equal(torch.from_numpy(Dense("float16").encode(absent, generator)["logits"]).float(), absent)


class TestReading:
    def test_other_tools_open_a_shard(self, tmp_path):
        build(tmp_path, TopK(5))
        path = sorted(tmp_path.glob("*.arrow"))[0]
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            assert stream.read_all().num_rows == 16
        assert len(Dataset.from_file(str(path))[3]["ids"]) == 4  # 5 classes of 6 bits

    def test_ids_are_those_of_the_examples_and_not_their_places(self, tmp_path):
        some = examples().subset(torch.tensor([40, 3, 17, 9]))
        build_store(teacher(), some, tmp_path, Dense("float32"), shard_rows=2)
        store = TeacherStore(tmp_path)
        assert store.ids.tolist() == [3, 9, 17, 40]
        torch.testing.assert_close(store.look_up(torch.tensor([40, 9])).logits, live(torch.tensor([40, 9])))
        with pytest.raises(StoreError, match=r"example 10 is not in the store, which has 4 examples"):
            store.look_up(torch.tensor([3, 10]))

    def test_a_batch_needs_ids(self, tmp_path):
        build(tmp_path)
        with pytest.raises(StoreError, match="example_id: missing"):
            StoredTeacher(tmp_path)({"pixel_values": draw(2, INPUTS)})

    def test_nothing_there(self, tmp_path):
        with pytest.raises(StoreError, match="no such folder"):
            TeacherStore(tmp_path / "none")
        with pytest.raises(StoreError, match="holds no shard"):
            TeacherStore(tmp_path)


class TestBuilding:
    def test_again_does_nothing(self, tmp_path):
        assert (build(tmp_path).written, contents(tmp_path)) == (4, contents(tmp_path))
        before = contents(tmp_path)
        again = build(tmp_path)
        assert (again.written, again.found) == (0, 4)
        assert contents(tmp_path) == before

    @every_codec
    def test_processes_share_the_work_and_the_bytes_are_the_same(self, tmp_path, codec):
        build(tmp_path / "one", codec)
        for rank in (2, 0, 1):
            build(tmp_path / "three", codec, rank=rank, world_size=3)
        assert contents(tmp_path / "three") == contents(tmp_path / "one")

    def test_a_hole_is_filled(self, tmp_path):
        build(tmp_path)
        before = contents(tmp_path)
        for path in sorted(tmp_path.iterdir())[2:4]:
            path.unlink()
        with pytest.raises(StoreError, match=r"1 of 4 shards are missing, 000000000016-000000000032\.arrow first"):
            TeacherStore(tmp_path)
        assert build(tmp_path).written == 1
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("change", ["teacher", "data", "codec"])
    def test_the_store_of_something_else_is_left_alone(self, tmp_path, change):
        build(tmp_path)
        before = contents(tmp_path)
        model = teacher(1 if change == "teacher" else 0)
        data = examples(seed=1 if change == "data" else 0)
        with pytest.raises(StoreError, match=rf"holds the store of something else \({change}: .* there, .* here\)"):
            build_store(model, data, tmp_path, Dense("float16" if change == "codec" else "float32"), shard_rows=16)
        assert contents(tmp_path) == before

    def test_a_full_disk(self, tmp_path, monkeypatch):
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


class TestFingerprints:
    def test_models(self):
        assert fingerprint_of_model(teacher()) == fingerprint_of_model(teacher())
        assert fingerprint_of_model(teacher()) != fingerprint_of_model(teacher(1))
        changed = teacher()
        with torch.no_grad():
            changed[2].bias[-1] += 1e-7
        assert fingerprint_of_model(changed) != fingerprint_of_model(teacher())

    def test_examples(self):
        assert fingerprint_of_examples(examples()) == fingerprint_of_examples(examples())
        assert fingerprint_of_examples(examples()) != fingerprint_of_examples(examples(seed=1))
        order = torch.randperm(ROWS)
        assert fingerprint_of_examples(examples().subset(order)) == fingerprint_of_examples(examples())
        assert fingerprint_of_examples(examples().subset(order[1:])) != fingerprint_of_examples(examples())
