"""The last linear layer of the teacher: how it is found, checked, written and read."""

from pathlib import Path

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from limbeck.data import Examples
from limbeck.errors import StoreError
from limbeck.store import Hidden, StoredTeacher, TeacherStore, build_store, verify
from limbeck.store.output_layer import (
    OUTPUT_LAYER_FILE,
    StoredOutputLayer,
    find_output_layer,
    output_layer_checksum,
    record_inputs,
    write_output_layer,
)
from limbeck.store.storage import Storage, file_checksum
from support.stores import INPUTS, ROWS, build, contents, draw, examples, live, teacher


def test_hidden_states_need_a_last_layer_with_nothing_after_it(tmp_path):
    capped = torch.nn.Sequential(teacher(), torch.nn.Tanh())
    with pytest.raises(StoreError, match="this teacher changes them after it"):
        build_store(capped, examples(), tmp_path, Hidden())
    with pytest.raises(StoreError, match="ends in a linear layer"):
        build_store(torch.nn.Sequential(torch.nn.Tanh()), examples(), tmp_path, Hidden())
    assert not list(tmp_path.iterdir())


class Tied(torch.nn.Module):
    """A model whose last module is not the layer that computes its logits."""

    def __init__(self):
        super().__init__()
        self.output, self.other = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4)

    def get_output_embeddings(self):
        return self.output


def test_the_output_layer_is_found():
    model = teacher()
    assert find_output_layer(model) is model[2]
    tied = Tied()
    assert find_output_layer(tied) is tied.output


def test_inputs_are_recorded_only_inside_the_block():
    model, inputs = teacher(), draw(3, INPUTS)
    with record_inputs(model[2]) as recorded:
        model(inputs)
        model(2 * inputs)
    model(inputs)
    assert [len(x) for x in recorded] == [3, 3]
    torch.testing.assert_close(model[2](recorded[1]), model(2 * inputs))


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_read_as_it_was_written(tmp_path, bias):
    storage, layer, hidden = Storage(tmp_path), torch.nn.Linear(3, 4, bias=bias), draw(5, 3)
    write_output_layer(storage, layer)
    assert file_checksum(tmp_path / OUTPUT_LAYER_FILE) == output_layer_checksum(layer)
    assert torch.equal(StoredOutputLayer(storage, 4, 3, output_layer_checksum(layer))(hidden), layer(hidden))
    with pytest.raises(StoreError, match=r"head\.safetensors: has no weight of shape \(5, 3\)"):
        StoredOutputLayer(storage, 5, 3, output_layer_checksum(layer))


class TestTwoBuilds:
    """A store never has the output layer of one teacher and the hidden states of another."""

    def test_the_layer_of_a_build_that_was_killed_is_replaced(self, tmp_path):
        write_output_layer(Storage(tmp_path), teacher(1)[2])
        build(tmp_path, Hidden("float32"))
        ids = torch.arange(ROWS)
        torch.testing.assert_close(TeacherStore(tmp_path).look_up(ids).logits, live(ids), rtol=1e-6, atol=1e-6)
        assert verify(tmp_path) == []

    def test_another_layer_is_refused_when_the_store_is_opened(self, tmp_path):
        build(tmp_path, Hidden("float32"))
        write_output_layer(Storage(tmp_path), teacher(1)[2])
        with pytest.raises(StoreError, match=r"head\.safetensors: its checksum is .* or of another teacher"):
            TeacherStore(tmp_path)
        build(tmp_path, Hidden("float32"))
        assert len(TeacherStore(tmp_path)) == ROWS

    def test_the_layer_of_another_store_is_left_alone(self, tmp_path):
        build(tmp_path, Hidden("float32"))
        before = contents(tmp_path)
        with pytest.raises(StoreError, match=r"holds the store of something else \(head: "):
            build_store(teacher(1), examples(), tmp_path, Hidden("float32"), shard_rows=16)
        assert contents(tmp_path) == before


def test_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        StoreError, match=r"head\.safetensors: cannot be written \(No space left on device\)\. Make room"
    ):
        build(tmp_path, Hidden())
    assert not list(tmp_path.iterdir())


def test_a_model_that_scales_its_logits(tmp_path):
    """The layer in the store makes the logits of the model: its scale is in the weights."""
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=29, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, logits_scaling=4.0, max_position_embeddings=16, initializer_range=0.5,
    )  # fmt: skip
    teacher, ids = GraniteForCausalLM(config).eval(), torch.arange(16).reshape(2, 8)

    def load(rows):
        return {"input_ids": ids[rows], "attention_mask": torch.ones_like(ids[rows])}

    build_store(teacher, Examples(load, torch.zeros(2)), tmp_path, Hidden("float32"))
    stored = StoredTeacher(tmp_path)({**load([0, 1]), "example_id": torch.arange(2)})
    with torch.no_grad():
        torch.testing.assert_close(stored.logits, teacher(ids).logits, rtol=1e-4, atol=1e-5)
