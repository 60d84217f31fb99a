"""What is found between a student's head and its output, in both kinds of graphs."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from limbeck.data import Preprocessing
from limbeck.export.formats import Student, write_onnx
from limbeck.export.program import trace
from limbeck.export.scales import OnnxGraph, Scale, TorchGraph, explained_by, scales_after_head


class After(nn.Module):
    """A body with a scale of its own, a head, and something after the head."""

    def __init__(self, then) -> None:
        super().__init__()
        self.body, self.head, self.other, self.then = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3), then
        self.register_buffer("temperature", torch.tensor(4.0))
        self.scale = nn.Parameter(torch.full((3,), 0.5))

    def forward(self, x):
        hidden = (self.body(x) / 7).softmax(-1) * 3
        return self.then(self, self.head(hidden), hidden)


WRONG = {
    "a number": (lambda m, z, h: z / 4, "a division by 4 after the head"),
    "its reciprocal": (lambda m, z, h: 0.25 * z, "a multiplication by 0.25 after the head"),
    "in place": (lambda m, z, h: z.div_(4), "a division by 4 after the head"),
    "a buffer": (lambda m, z, h: z / m.temperature, "a division by 4 after the head"),
    "a parameter": (lambda m, z, h: z * m.scale, "a multiplication by 0.5 after the head"),
    "behind a shape": (lambda m, z, h: (z[:, None] / 4).squeeze(1) + 1, "a division by 4 after the head"),
    "of one of two heads": (lambda m, z, h: z / 4 + m.other(h), "a division by 4 after the head"),
    "half of one head": (lambda m, z, h: (z + 1) / 2, "a division by 2 after the head"),
    "a softmax": (lambda m, z, h: z.softmax(-1), "a softmax after the head"),
    "its logarithm": (lambda m, z, h: z.log_softmax(-1), "a log_softmax after the head"),
    "a sigmoid": (lambda m, z, h: z.sigmoid(), "a sigmoid after the head"),
}
RIGHT = {
    "nothing": lambda m, z, h: z,
    "a shift": lambda m, z, h: z + 4 - m.temperature,
    "another order": lambda m, z, h: z[:, [2, 0, 1]],
    "the mean of two heads": lambda m, z, h: (z + m.other(h)) / 2,
    "a norm of the data": lambda m, z, h: z / z.norm(),
    "times one": lambda m, z, h: z * 1.0,
}


def found(then):
    torch.manual_seed(0)
    return [str(scale) for scale in scales_after_head(TorchGraph(trace(After(then).eval(), {"x": torch.rand(2, 4)})))]


@pytest.mark.parametrize("case", WRONG)
def test_a_scale_is_found_in_a_program(case):
    then, told = WRONG[case]
    assert found(then) == [told]


@pytest.mark.parametrize("case", RIGHT)
def test_what_scales_nothing_is_not_accused(case):
    assert found(RIGHT[case]) == []


def write(path, *nodes, **constants):
    """Write an ONNX file: x, a matrix product that makes z, and the nodes that make y of it."""
    held = {"w": np.eye(3, dtype=np.float32), **{name: np.float32(value) for name, value in constants.items()}}
    shape = ["n", 3]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), *nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    onnx.save(helper.make_model(graph), path)
    return OnnxGraph(path)


node = helper.make_node


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([node("Identity", ["z"], ["y"])], []),
        ([node("Add", ["z", "t"], ["y"])], []),
        ([node("Div", ["z", "t"], ["y"])], ["a division by 4 after the head"]),
        ([node("Cast", ["t"], ["s"], to=1), node("Mul", ["s", "z"], ["y"])], ["a multiplication by 4 after the head"]),
        ([node("Sqrt", ["t"], ["s"]), node("Div", ["z", "s"], ["y"])], ["a division by a constant after the head"]),
        ([node("Constant", [], ["s"], value_float=8.0), node("Div", ["z", "s"], ["y"])], ["a division by 8 after the head"]),
        ([node("Softmax", ["z"], ["y"])], ["a softmax after the head"]),
        ([node("Gemm", ["z", "w"], ["y"], alpha=0.25)], ["a multiplication by 0.25 after the head"]),
        ([node("Gemm", ["z", "w"], ["y"])], []),
    ],
)  # fmt: skip
def test_a_scale_is_found_in_a_file(tmp_path, nodes, told):
    assert [str(scale) for scale in scales_after_head(write(tmp_path / "m.onnx", *nodes, t=4.0))] == told


def configured(**entries):
    model = nn.Module()
    model.config = SimpleNamespace(to_dict=lambda: entries)
    return model


@pytest.mark.parametrize(
    ("entries", "constant", "told"),
    [
        ({"logit_scale": 0.0625}, 0.0625, "logit_scale = 0.0625"),
        ({"logits_scaling": 8.0}, 8.0, "logits_scaling = 8"),
        ({"logits_scaling": 8.0}, 0.125, "logits_scaling = 8"),
        ({"text_config": {"final_logit_softcapping": 30.0}}, 30.0, "final_logit_softcapping = 30"),
        ({"logit_scale": 0.0625}, 4.0, None),
        ({"hidden_size": 4, "num_labels": 4}, 4.0, None),
        ({"logit_scale": None, "tie_logits": True}, 1.5, None),
        ({"logit_scale": 2.0}, None, None),
    ],
)
def test_a_scale_belongs_to_an_architecture_that_declares_it(entries, constant, told):
    assert explained_by(Scale("mul", constant), configured(**entries)) == told


@pytest.mark.slow
def test_the_scale_of_cohere_is_its_own():
    from transformers import CohereConfig, CohereForCausalLM

    config = CohereConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        logit_scale=0.125, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = CohereForCausalLM(config).eval()
    tokens = torch.randint(0, 20, (2, 5))
    (scale,) = scales_after_head(
        TorchGraph(trace(model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}))
    )
    assert explained_by(scale, model) == "logit_scale = 0.125"
    model.config.logit_scale = 0.5
    assert explained_by(scale, model) is None


@pytest.mark.slow
def test_the_scale_of_granite_stands_in_its_file(tmp_path):
    from transformers import GraniteConfig, GraniteForCausalLM

    config = GraniteConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        logits_scaling=8.0, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model, tokens = GraniteForCausalLM(config).eval(), torch.randint(0, 20, (2, 5))
    (tmp_path / "inputs.json").write_text("{}")
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    write_onnx(Student(model, Preprocessing([], task="causal_lm"), tmp_path, batch), tmp_path)
    (scale,) = scales_after_head(OnnxGraph(tmp_path / "model.onnx"))
    assert explained_by(scale, model) == "logits_scaling = 8"
