"""ONNX files as models: the same numbers as the formula, and one line about each file that cannot be a teacher."""

import json

import numpy as np
import pytest
import torch

from limbeck.errors import ModelError
from limbeck.models import OnnxModel, class_names_in_config, forward_logits, load_onnx
from limbeck.models.forward import input_names
from support.onnx_files import write_linear

pytest.importorskip("onnxruntime")
WEIGHT = np.random.default_rng(0).normal(size=(4, 3))
ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def expected(rows):
    return torch.from_numpy(rows.double().numpy() @ WEIGHT).float()


@pytest.mark.parametrize("name", ["pixel_values", "inputs"])
def test_one_input_takes_one_entry_of_any_name_and_any_number_of_rows(name, tmp_path):
    model = load_onnx(write_linear(tmp_path / "m.onnx", WEIGHT))
    for rows in (ROWS, ROWS[:1]):
        found = forward_logits(model, {name: rows, "labels": torch.zeros(len(rows))})
        torch.testing.assert_close(found, expected(rows))


def test_several_inputs_are_matched_by_name_and_converted(tmp_path):
    path = write_linear(tmp_path / "m.onnx", WEIGHT, inputs=("input_ids", "attention_mask"), dtype=np.int64)
    model = load_onnx(path)
    assert input_names(model) == {"input_ids", "attention_mask"}
    ids, mask = torch.arange(20).reshape(5, 4), torch.ones(5, 4, dtype=torch.int32)
    batch = {"attention_mask": mask, "token_type_ids": ids, "input_ids": ids}
    torch.testing.assert_close(forward_logits(model, batch), expected(ids + mask))
    with pytest.raises(
        ModelError, match="takes the inputs input_ids, attention_mask, and the batch has input_ids, other"
    ):
        forward_logits(model, {"input_ids": ids, "other": ids})


def test_probabilities_become_logits(tmp_path):
    model = load_onnx(write_linear(tmp_path / "m.onnx", WEIGHT, softmax=True), "probabilities")
    torch.testing.assert_close(forward_logits(model, {"x": ROWS}).softmax(-1), expected(ROWS).softmax(-1))


def test_the_output_is_found_by_its_name_or_as_the_only_one(tmp_path):
    assert OnnxModel(write_linear(tmp_path / "m.onnx", WEIGHT, also=("hidden", "logits"))).output == "logits"
    path = write_linear(tmp_path / "m.onnx", WEIGHT, also=("hidden",))
    with pytest.raises(ModelError, match=r"has the outputs scores \(tensor\(float\)\), hidden .* of the name 'logits'"):
        load_onnx(path)


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"class_names": json.dumps(["cat", "dog", "emu"])}, ("cat", "dog", "emu")),
        ({"id2label": json.dumps({"1": "dog", "0": "cat", "2": "emu"})}, ("cat", "dog", "emu")),
        ({"author": "somebody"}, None),
    ],
)
def test_the_classes_are_those_of_the_metadata(metadata, names, tmp_path):
    found = class_names_in_config(load_onnx(write_linear(tmp_path / "m.onnx", WEIGHT, metadata=metadata)))
    assert (found and found.names) == names


def test_metadata_that_cannot_be_read(tmp_path):
    for text in ("cat, dog", '"cat"', '{"1": "dog"}'):
        with pytest.raises(ModelError, match="metadata 'names' should hold the class names as a JSON list"):
            load_onnx(write_linear(tmp_path / "m.onnx", WEIGHT, metadata={"names": text}))


def test_files_and_rows_that_do_not_fit(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        load_onnx(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"broken\.onnx: onnxruntime cannot read it"):
        load_onnx(tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match=r"'x' has the fixed shape \[8, 4\], so that it takes 8 examples.*dynamic"):
        load_onnx(write_linear(tmp_path / "m.onnx", WEIGHT, batch=8))
    model = load_onnx(write_linear(tmp_path / "m.onnx", WEIGHT))
    for rows, shape in ((torch.zeros(5, 6), r"\(5, 6\)"), (torch.zeros(5, 2, 2), r"\(5, 2, 2\)")):
        with pytest.raises(ModelError, match=rf"'x' has the shape \(batch, 4\), and the batch has {shape}"):
            forward_logits(model, {"x": rows})


def test_a_store_knows_the_file_and_the_weights_beside_it(tmp_path):
    path = write_linear(tmp_path / "m.onnx", WEIGHT)
    first = load_onnx(path).get_extra_state()
    assert torch.equal(load_onnx(path).get_extra_state(), first)
    (tmp_path / "m.onnx.data").write_bytes(b"other weights")
    assert not torch.equal(load_onnx(path).get_extra_state(), first)
