"""The formats: each is as exact and as small as it promises, and refuses what it cannot hold."""

import json
import math

import numpy as np
import pytest
import torch

from limbeck import sparse_distillation_loss
from limbeck.errors import StoreError
from limbeck.store import (
    Dense,
    Hidden,
    Sampled,
    TeacherStore,
    TopK,
    build_store,
    verify,
)
from limbeck.store.codecs import codec_from, codec_settings
from limbeck.teachers import LiveTeacher
from support.stores import CLASSES, ROWS, build, draw, every_codec, examples, live, teacher

IDS = torch.tensor([49, 0, 16, 15, 15, 31])


def test_dense_logits_are_as_exact_as_their_dtype(tmp_path):
    for codec, allowed in ((Dense("float32"), 0.0), (Dense("float16"), 5e-4), (Dense("bfloat16"), 4e-3)):
        build(tmp_path / codec.dtype, codec)
        got = TeacherStore(tmp_path / codec.dtype).look_up(IDS).logits
        torch.testing.assert_close(got.float(), live(IDS), rtol=allowed, atol=1e-6)


def test_int8_is_off_by_half_a_step_at_most(tmp_path):
    build(tmp_path, Dense("int8"))
    got, truth = TeacherStore(tmp_path).look_up(IDS).logits, live(IDS)
    step = (truth.amax(-1) - truth.amin(-1)) / 254
    assert ((got - truth).abs().amax(-1) <= 0.51 * step).all()


def test_the_logits_of_a_bfloat16_teacher_are_kept_bit_for_bit(tmp_path):
    model = teacher().bfloat16()
    build_store(model, examples(), tmp_path, Dense("bfloat16"), shard_rows=16)
    got = TeacherStore(tmp_path).look_up(IDS).logits
    live_teacher = LiveTeacher(teacher().bfloat16())
    truth = torch.cat(
        [live_teacher(examples().load(list(range(s, min(s + 16, ROWS))))).logits for s in range(0, ROWS, 16)]
    )
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, truth[IDS])


@pytest.mark.parametrize("t", [1.0, 2.0, 4.0])
def test_top_k_lists_are_exact_at_every_stored_temperature(tmp_path, t):
    build(tmp_path, TopK(5, (2.0, 4.0), "float32"))
    got = TeacherStore(tmp_path).look_up(IDS).targets
    values, ids = (live(IDS) / t).log_softmax(-1).topk(5)
    assert torch.equal(got.ids, ids)
    torch.testing.assert_close(got.at(t), values, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="log-normaliser at T = 3"):
        got.at(3.0)


@pytest.mark.parametrize("gap", [0.0, 3.0, 8.0, 20.0, 60.0])
@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 2e-5), ("float16", 2e-3)])
def test_the_rest_of_a_top_k_list_survives(gap, dtype, allowed):
    """From a flat teacher to one that leaves e^-60: the list and its rest are 1 together, and no loss becomes infinite."""
    logits = draw(6, CLASSES)
    logits[:, :2] += gap
    student = draw(6, CLASSES, seed=1)
    codec = TopK(2, (0.5, 4.0), dtype)
    targets = codec.decode(codec.encode(logits, torch.Generator()), CLASSES).targets
    for t in (0.5, 1.0, 4.0):
        truth = (logits.double() / t).log_softmax(-1)
        rest = truth.scatter(-1, targets.ids, -torch.inf).logsumexp(-1)
        torch.testing.assert_close(targets.log_rest_at(t), rest, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(targets.at(t).double(), truth.gather(-1, targets.ids), rtol=allowed, atol=allowed)
        ours = (student.double() / t).log_softmax(-1)
        p, q = (
            torch.cat(
                [x.gather(-1, targets.ids), x.scatter(-1, targets.ids, -torch.inf).logsumexp(-1, keepdim=True)], -1
            )
            for x in (truth, ours)
        )
        expected = (q.exp() * (q - p)).sum(-1).mean() * t**2
        loss = sparse_distillation_loss(
            student, targets, alpha=1.0, temperature=t, divergence="reverse_kl", mode="tail"
        )
        assert loss.item() == pytest.approx(expected.item(), rel=5 * allowed)


def test_the_rest_takes_four_bytes_for_each_position():
    logits = draw(3, 32000)
    for codec, before in ((TopK(8), 31.0), (TopK(64, (2.0,)), 252.0)):
        assert codec.payload_bytes(32000) == before + 4
        assert sum(column.nbytes for column in codec.encode(logits, torch.Generator()).values()) == 3 * (before + 4)


def test_draws_follow_the_teachers_probabilities(tmp_path):
    build(tmp_path, Sampled(5000))
    targets = TeacherStore(tmp_path).look_up(torch.tensor([3])).targets
    frequencies = torch.bincount(targets.ids[0], minlength=CLASSES) / 5000
    torch.testing.assert_close(frequencies, live(torch.tensor([3])).softmax(-1)[0], rtol=0, atol=0.03)


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-6), ("float16", 2e-3), ("bfloat16", 2e-2)])
def test_hidden_states_and_the_last_layer_give_the_logits(tmp_path, dtype, allowed):
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


@every_codec
def test_a_codec_can_be_made_from_its_settings(codec):
    assert codec_from(json.loads(json.dumps(codec_settings(codec)))) == codec


@every_codec
def test_a_file_is_little_larger_than_its_payload(tmp_path, codec):
    """Beside the payload, the file holds at most one byte for each position, by rounding up to whole bytes."""
    columns = codec.columns(CLASSES)
    stored = sum(np.dtype(column.dtype).itemsize * column.width for column in columns)
    assert codec.payload_bytes(CLASSES) <= stored < codec.payload_bytes(CLASSES) + 1
    build(tmp_path, codec, shard_rows=ROWS)
    arrow = next(tmp_path.glob("*.arrow")).stat().st_size
    assert arrow <= ROWS * (8 + stored) + 2500  # Arrow adds the schema, and padding to 64 bytes


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
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(StoreError, match=message):
        make()


def test_values_that_a_format_cannot_hold_are_refused():
    generator = torch.Generator()
    with pytest.raises(StoreError, match=r"beyond float16 \(65,504\)"):
        Dense("float16").encode(torch.tensor([[1e5, 0.0]]), generator)
    with pytest.raises(StoreError, match="int8 cannot hold"):
        Dense("int8").encode(torch.tensor([[-math.inf, 0.0]]), generator)
    absent = torch.tensor([[-math.inf, 1.0]])
    assert torch.equal(torch.from_numpy(Dense("float16").encode(absent, generator)["logits"]).float(), absent)
