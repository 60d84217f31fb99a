"""ONNX files of one linear layer, as a test needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_linear(
    path: Path,
    weight: np.ndarray,
    *,
    inputs: tuple[str, ...] = ("x",),
    batch: int | str = "batch",
    shape: tuple[int, ...] = (),
    softmax: bool = False,
    also: tuple[str, ...] = (),
    output: str = "scores",
    metadata: dict[str, str] | None = None,
    dtype: Any = np.float32,
) -> Path:
    """Write the layer y = (sum of the inputs) @ weight, and return its path.

    Args:
        path: the file.
        weight: (features, classes).
        inputs: the names of the inputs.
        batch: the first axis.
        shape: the other axes of the inputs; by default the number of features.
        softmax: give probabilities.
        also: the names of more outputs, which are equal.
        output: the name of the output.
        metadata: the metadata of the file.
        dtype: the dtype of the inputs, which are cast to float32.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("Cast", [name], [f"{name}_"], to=TensorProto.FLOAT) for name in inputs]
    nodes.append(helper.make_node("Sum", [f"{name}_" for name in inputs], ["sum"]))
    nodes.append(helper.make_node("Flatten", ["sum"], ["rows"]))
    nodes.append(helper.make_node("MatMul", ["rows", "weight"], ["raw" if softmax else output]))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["raw"], [output], axis=-1))
    nodes += [helper.make_node("Identity", [output], [name]) for name in also]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, kind, [batch, *(shape or [len(weight)])]) for name in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, weight.shape[1]]) for n in (output, *also)],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path
