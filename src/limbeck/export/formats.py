"""The formats that a student is written in. Each one writes a file, and opens it again in its own runtime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import Preprocessing
from limbeck.data.preprocessing import PREPROCESSING_FILE
from limbeck.errors import ModelError
from limbeck.export.program import LOGITS, quiet, trace
from limbeck.export.scales import Graph, OnnxGraph, TorchGraph
from limbeck.models import OnnxModel, forward_logits, load_model

Run = Callable[[Mapping[str, Tensor]], Tensor]
"""A function from a batch to logits, which runs an exported student."""


@dataclass(frozen=True)
class Student:
    """What is exported."""

    model: nn.Module
    """The student, in float32."""
    preprocessing: Preprocessing
    folder: Path
    """The folder that a run wrote it to."""
    batch: dict[str, Tensor]
    """Some examples, as it is fed."""
    functions: Sequence[str] = ()
    """The functions that may be called to load it."""

    @property
    def metadata(self) -> dict[str, str]:
        """Return what a file of one model says about itself: its classes, its task, and how its inputs are prepared."""
        inputs = (self.folder / PREPROCESSING_FILE).read_text(encoding="utf-8")
        labels = json.dumps(self.preprocessing.label_names, ensure_ascii=False)
        named = {"class_names": labels} if self.preprocessing.label_names else {}
        return {**named, "task": self.preprocessing.task, "inputs": json.dumps(json.loads(inputs), ensure_ascii=False)}


@dataclass(frozen=True)
class Format:
    """A format."""

    write: Callable[[Student, Path], None]
    """Writes the student into a folder that has its ``inputs.json`` and tokenizer."""
    open: Callable[[Path, Sequence[str]], Run]
    """Opens the file in its own runtime, given the folder and the functions that may be called."""
    graph: Callable[[Student, Path], Graph]
    """Reads the graph of the file."""
    quantise: Callable[[Path], None] | None = None
    """Replaces its weights by whole numbers of 8 bits; None where that is not there."""


ONNX_FILE, PROGRAM_FILE = "model.onnx", "model.pt2"


def write_onnx(student: Student, folder: Path) -> None:
    """Write ``model.onnx``. Its metadata has the classes, the task and ``inputs.json``.

    Args:
        student: the student.
        folder: where to write.

    Raises:
        ModelError: it cannot be traced, or has an operation that ONNX lacks.
    """
    import onnx
    import onnxscript  # noqa: F401 (torch would raise an error of its own)

    program = trace(student.model, student.batch)
    try:
        with quiet(), torch.no_grad():
            names: dict[str, Any] = {"input_names": list(student.batch), "output_names": [LOGITS]}
            written: Any = torch.onnx.export(program, (), dynamo=True, verbose=False, **names)
            written.save(str(folder / ONNX_FILE))
    except Exception as error:  # torch has many kinds
        first = str(error).strip().partition("\n")[0]
        raise ModelError(f"{type(student.model).__name__}: torch.onnx cannot write it ({first}).") from error
    model = onnx.load(str(folder / ONNX_FILE), load_external_data=False)
    onnx.helper.set_model_props(model, student.metadata)
    for (
        node
    ) in model.graph.node:  # where each one stands in the source: as large as a small model, and nobody's business
        node.ClearField("metadata_props")
    onnx.save(model, str(folder / ONNX_FILE))


def open_onnx(folder: Path, _: Sequence[str] = ()) -> Run:
    """Open ``model.onnx`` in onnxruntime.

    Args:
        folder: where it was written.

    Returns:
        A function from a batch to logits.

    Raises:
        ModelError: onnxruntime cannot read it.
    """
    model = OnnxModel(folder / ONNX_FILE)
    return lambda batch: model(**batch)


def quantise_onnx(folder: Path) -> None:
    """Replace the weights of ``model.onnx`` by whole numbers of 8 bits; activations follow while it runs.

    Args:
        folder: where it was written.

    Raises:
        ModelError: nothing in it can be quantised.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / ONNX_FILE
    aside = folder / f"float-{ONNX_FILE}"
    path.replace(aside)
    with quiet():
        # onnxruntime has no convolution for signed weights
        quantize_dynamic(str(aside), str(path), weight_type=QuantType.QUInt8, per_channel=False)
    shrunk = path.stat().st_size < aside.stat().st_size
    for part in folder.glob(f"{aside.name}*"):
        part.unlink()
    if not shrunk:
        raise ModelError(
            "--int8: the file would not become smaller: the student has few weights. Leave the option out."
        )


def write_program(student: Student, folder: Path) -> None:
    """Write ``model.pt2``, a program of ``torch.export``. Its extra files have the classes, the task and ``inputs.json``.

    Args:
        student: the student.
        folder: where to write.

    Raises:
        ModelError: it cannot be traced.
    """
    program = trace(student.model, student.batch)
    for node in program.graph.nodes:  # where each one stands in the source
        node.meta.pop("stack_trace", None)
    with quiet():
        torch.export.save(program, folder / PROGRAM_FILE, extra_files=dict(student.metadata))


def open_program(folder: Path, _: Sequence[str] = ()) -> Run:
    """Open ``model.pt2`` with torch alone.

    Args:
        folder: where it was written.

    Returns:
        A function from a batch to logits.
    """
    with quiet():
        module = torch.export.load(folder / PROGRAM_FILE).module()
    return lambda batch: module(**batch)


def copy_student(student: Student, folder: Path) -> None:
    """Write ``model.safetensors`` and ``config.json``, as the run has them, with all files that belong to the student.

    Args:
        student: the student.
        folder: where to write.
    """
    shutil.copytree(student.folder, folder, dirs_exist_ok=True)


def open_student(folder: Path, functions: Sequence[str] = ()) -> Run:
    """Load the copy of a student as a run's student is loaded.

    Args:
        folder: where it was written.
        functions: names ``package.module:function`` that may be called.

    Returns:
        A function from a batch to logits.

    Raises:
        ModelError: it cannot be loaded.
    """
    model = load_model(folder, model=functions).float()
    return lambda batch: forward_logits(model, batch)


def _graph_of_onnx(_: Student, folder: Path) -> Graph:
    return OnnxGraph(folder / ONNX_FILE)


def _graph_of_program(_: Student, folder: Path) -> Graph:
    with quiet():
        return TorchGraph(torch.export.load(folder / PROGRAM_FILE))


def _graph_of_student(student: Student, folder: Path) -> Graph:
    return TorchGraph(trace(load_model(folder, model=student.functions).float(), student.batch))


FORMATS = {
    "onnx": Format(write_onnx, open_onnx, _graph_of_onnx, quantise_onnx),
    "torch-export": Format(write_program, open_program, _graph_of_program),
    "safetensors": Format(copy_student, open_student, _graph_of_student),
}
"""The formats by their names. A new one is added here."""
