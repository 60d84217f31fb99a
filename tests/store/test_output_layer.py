"""The last linear layer of the teacher: how it is found, checked, written and read."""

import pytest
import torch

from limbeck.errors import StoreError
from limbeck.store import Hidden, build_store
from limbeck.store.output_layer import (
    OUTPUT_LAYER_FILE,
    StoredOutputLayer,
    find_output_layer,
    output_layer_checksum,
    record_inputs,
    write_output_layer,
)
from limbeck.store.storage import Storage, file_checksum
from support.stores import INPUTS, draw, examples, teacher


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
        StoredOutputLayer(storage, 5, 3, "")
