"""Proof that nothing scales the logits between a student's head and its output, as a temperature left in a graph would.

The graph is walked from the output back to the head: the last matrix product or convolution on each way. A division or
multiplication by a constant on the way, and a softmax, is found. A scale that the model's own config declares, as Cohere and
Granite have one, belongs to the model. The mean of two heads divides by their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.export import ExportedProgram

from limbeck.models.forward import underlying

HEADS = frozenset({
    "linear", "addmm", "mm", "matmul", "bmm", "baddbmm", "einsum", "gemm", "fusedmatmul", "conv", "conv1d", "conv2d", "conv3d",
    "convolution", "convtranspose", "conv_transpose2d", "embedding", "embedding_bag", "gather",
})  # fmt: skip
"""The operations that make logits, by their names in torch and in ONNX."""
NORMALISING = frozenset({
    "softmax", "_softmax", "log_softmax", "_log_softmax", "logsoftmax", "sigmoid", "log_sigmoid", "logsigmoid",
})  # fmt: skip
DIVIDES, MULTIPLIES = frozenset({"div", "true_divide"}), frozenset({"mul", "multiply"})
DECLARED = ("logit", "lm_head_multiplier", "output_multiplier")
"""What is in the name of a config's entry that scales logits: logit_scale, logits_scaling, final_logit_softcapping."""


@dataclass(frozen=True)
class Step:
    """One operation of a graph."""

    kind: str
    """Its name in lower case, such as "div"."""
    data: tuple[str, ...]
    """The values that depend on the graph's inputs and go into it."""
    constants: tuple[Any, ...] = ()
    """The other values that go into it: numbers, or None where a number cannot be told."""


class Graph(Protocol):
    """A graph that can be walked back from its output."""

    output: str

    def step(self, name: str) -> Step | None:
        """Return the operation that makes a value; None for an input."""
        ...


@dataclass(frozen=True)
class Scale:
    """An operation between the head and the output that changes how large logits are."""

    kind: str
    constant: float | None
    """The number, the first of several; None if it cannot be told."""

    def __str__(self) -> str:
        if self.kind in NORMALISING:
            return f"a {self.kind.strip('_')} after the head"
        number = "a constant" if self.constant is None else f"{self.constant:.6g}"
        return f"a {'division' if self.kind in DIVIDES else 'multiplication'} by {number} after the head"


def scales_after_head(graph: Graph) -> list[Scale]:
    """Return what scales the logits of a graph between its head and its output.

    Args:
        graph: the graph.
    """
    waiting, seen, found = [graph.output], set[str](), list[Scale]()
    while waiting:
        name = waiting.pop()
        step = None if name in seen else graph.step(name)
        seen.add(name)
        if step is None:
            continue
        scale = _scale_of(step, graph)
        if scale is not None:
            found.append(scale)
        if step.kind not in HEADS:
            waiting += step.data
    return found


def _scale_of(step: Step, graph: Graph) -> Scale | None:
    """Return the scale that an operation is, or None."""
    if step.kind in NORMALISING:
        return Scale(step.kind, None)
    if step.kind == "gemm" and step.constants and step.constants[0] != 1:  # its factor alpha
        return Scale("mul", step.constants[0])
    if step.kind not in DIVIDES | MULTIPLIES or len(step.data) != 1 or not step.constants:
        return None
    constant = step.constants[0]
    if constant == 1 or (constant in (2, 0.5) and _is_mean(step, constant, graph)):
        return None
    return Scale(step.kind, constant)


def _is_mean(step: Step, constant: float, graph: Graph) -> bool:
    """Return True if an operation halves the sum of two values, such as those of two heads."""
    before = graph.step(step.data[0])
    halves = constant == (2 if step.kind in DIVIDES else 0.5)
    return halves and before is not None and before.kind == "add" and len(set(before.data)) == 2


def explained_by(scale: Scale, student: nn.Module) -> str | None:
    """Return the entry of the student's own config that a scale is, such as "logit_scale = 0.0625"; None if none is.

    Args:
        scale: the scale.
        student: the student.
    """
    config = getattr(underlying(student), "config", None)
    entries: Mapping[str, Any] = config.to_dict() if hasattr(config, "to_dict") else {}  # pyright: ignore[reportOptionalMemberAccess]
    for name, value in _numbers(entries):
        if scale.constant is None or not any(part in name for part in DECLARED):
            continue
        if any(math.isclose(scale.constant, number, rel_tol=1e-5) for number in (value, 1 / value)):
            return f"{name} = {value:g}"
    return None


def _numbers(entries: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers other than 0 in a config, those of a config inside of it included."""
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and value:
            yield name, float(value)


class TorchGraph:
    """The graph of a program of ``torch.export``.

    Args:
        program: the program, with one output.
    """

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        self.nodes = {node.name: node for node in program.graph.nodes}
        self.output = str(next(iter(signature.user_outputs)))
        held: dict[str, Any] = {**program.state_dict, **program.constants}
        targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        targets |= signature.inputs_to_lifted_tensor_constants
        self.held = {name: held[target] for name, target in targets.items() if target in held}

    def step(self, name: str) -> Step | None:
        """Return the operation that makes a value; None for an input.

        Args:
            name: the value's name.
        """
        node = self.nodes[name]
        if node.op != "call_function":
            return None
        kind = getattr(
            getattr(node.target, "_schema", None), "name", getattr(node.target, "__name__", str(node.target))
        )
        parents = {each.name for each in node.all_input_nodes}
        data = tuple(sorted(each for each in parents if each not in self.held))
        values = [self.held[each.name] if hasattr(each, "name") else each for each in node.args if self._is_held(each)]
        return Step(kind.rpartition("::")[2].rstrip("_").lower(), data, tuple(map(_first_number, values)))

    def _is_held(self, argument: Any) -> bool:
        return getattr(argument, "name", None) in self.held or isinstance(argument, int | float)


class OnnxGraph:
    """The graph of an ONNX file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(path)).graph
        self.output = graph.output[0].name
        self.makers = {name: node for node in graph.node for name in node.output}
        self.held: dict[str, Any] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        for node in graph.node:  # they stand in the order of computation
            if node.op_type == "Constant":
                self.held[node.output[0]] = onnx.helper.get_attribute_value(node.attribute[0])
            elif node.input and all(name in self.held for name in node.input):
                same = node.op_type in ("Cast", "CastLike", "Identity", "Reshape", "Unsqueeze", "Squeeze")
                self.held |= dict.fromkeys(node.output, self.held[node.input[0]] if same else None)

    def step(self, name: str) -> Step | None:
        """Return the operation that makes a value; None for an input.

        Args:
            name: the value's name.
        """
        node = self.makers.get(name)
        if node is None or name in self.held:
            return None
        data = tuple(each for each in node.input if each and each not in self.held)
        kind = node.op_type.lower()
        if kind == "gemm":
            return Step(kind, data, tuple(each.f for each in node.attribute if each.name == "alpha") or (1.0,))
        return Step(kind, data, tuple(_first_number(self.held[each]) for each in node.input if each in self.held))


def _first_number(value: Any) -> float | None:
    """Return the first number of a tensor, an array or a number; None if there is none."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        value = value.detach().float().cpu().numpy()
    if hasattr(value, "raw_data"):  # a tensor of ONNX
        from onnx import numpy_helper

        value = numpy_helper.to_array(value)
    try:
        numbers = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        return None
    return float(numbers[0]) if len(numbers) else None
