"""ONNX files as models: a batch goes in by the names of the file's inputs, and logits come out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models.probabilities import LogProbabilities

DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(bool)": torch.bool,
}
"""The dtypes by the names that onnxruntime has for them."""
CLASS_KEYS = ("class_names", "id2label", "names", "labels", "classes")
"""The keys of a file's metadata that may hold the names of its classes, as a JSON list or as an object by number."""
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxModel(nn.Module):
    """The model of an ONNX file, which onnxruntime runs. It has no weights that can be trained.

    An input is given the entry of the batch that has its name. A file with one input takes a batch with one entry, whatever
    their names. Inputs are converted to the dtypes of the file.

    Args:
        path: the file.
        output: the name of the output with a value for each class. If no output has it, the only one of floats is taken.

    Raises:
        ModelError: the file cannot be read, has a fixed batch size, or several outputs that could be meant.
    """

    def __init__(self, path: str | Path, output: str = "logits") -> None:
        import onnxruntime

        super().__init__()
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError(f"{path}: no such file. Expected an ONNX file.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is told by an error of ours
        providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime has an error class for each of its states
            raise ModelError(f"{path}: onnxruntime cannot read it ({_first_line(error)}).") from None
        self.inputs = self.session.get_inputs()
        for entry in self.inputs:
            if entry.shape and isinstance(entry.shape[0], int):
                raise ModelError(
                    f"{path}: its input {entry.name!r} has the fixed shape {entry.shape}, so that it takes {entry.shape[0]} "
                    "examples and no other number. Export it with a dynamic first axis (dynamic_axes or dynamic_shapes)."
                )
        self.input_columns = tuple(entry.name for entry in self.inputs)
        self.output = _find_output(self.path, self.session.get_outputs(), output)
        names = _class_names(self.path, self.session.get_modelmeta().custom_metadata_map)
        if names is not None:
            self.class_names = names
        self.eval()

    def forward(self, **batch: Tensor) -> Tensor:
        given = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        if len(self.inputs) == len(given) == 1:
            given = {self.inputs[0].name: next(iter(given.values()))}
        missing = [name for name in self.input_columns if name not in given]
        if missing:
            raise ModelError(
                f"{self.path}: takes the inputs {', '.join(self.input_columns)}, and the batch has "
                f"{', '.join(given) or 'none'}. Export it with the names of the batch's entries."
            )
        feeds = {entry.name: self._fed(entry, given[entry.name]) for entry in self.inputs}
        try:
            found = self.session.run([self.output], feeds)[0]
        except Exception as error:  # onnxruntime has an error class for each of its states
            raise ModelError(f"{self.path}: onnxruntime cannot run it ({_first_line(error)}).") from None
        return torch.as_tensor(found).to(next(iter(given.values())).device)

    def _fed(self, entry: Any, value: Tensor) -> Any:
        """Return what the file's input is given, after a look at its axes."""
        fits = len(entry.shape) == value.dim() and all(
            not isinstance(size, int) or size == there for size, there in zip(entry.shape, value.shape, strict=True)
        )
        if not fits:
            raise ModelError(
                f"{self.path}: its input {entry.name!r} has the shape {_told(entry.shape)}, and the batch has "
                f"{_told(list(value.shape))}. Give it inputs of that shape, or export it with dynamic axes."
            )
        if entry.type not in DTYPES:
            raise ModelError(f"{self.path}: its input {entry.name!r} is a {entry.type}, and a batch has numbers.")
        return value.detach().to("cpu", DTYPES[entry.type]).numpy()

    def get_extra_state(self) -> Tensor:
        """Return a digest of the file and of the weights beside it, by which a store knows its teacher."""
        digest = hashlib.sha256()
        for part in sorted(self.path.parent.glob(f"{self.path.name}*")):  # model.onnx, model.onnx.data
            digest.update(part.read_bytes())
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def load_onnx(path: str | Path, outputs: str = "logits") -> nn.Module:
    """Load an ONNX file as a model that gives logits.

    Args:
        path: the file.
        outputs: what it returns: "logits", or "probabilities", whose logarithms serve as logits.

    Returns:
        The model, in evaluation mode.

    Raises:
        ModelError: the file cannot be read, has a fixed batch size, or several outputs that could be meant.
    """
    model = OnnxModel(path, outputs)
    return LogProbabilities(model) if outputs == "probabilities" else model


def _find_output(path: Path, outputs: Iterable[Any], wanted: str) -> str:
    """Return the name of the output with a floating-point value for each class."""
    floating = [entry.name for entry in outputs if DTYPES.get(entry.type, torch.bool).is_floating_point]
    if wanted in floating:
        return wanted
    if len(floating) != 1:
        has = ", ".join(f"{entry.name} ({entry.type})" for entry in outputs)
        raise ModelError(
            f"{path}: has the outputs {has}. Expected one tensor of floats, or one of the name {wanted!r}. Export it so; a "
            "converter of scikit-learn needs zipmap=False."
        )
    return floating[0]


def _class_names(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the class names that a file's metadata has, or None."""
    key = next((key for key in CLASS_KEYS if key in metadata), None)
    if key is None:
        return None
    try:
        names = json.loads(metadata[key])
        if isinstance(names, dict):
            names = [names[str(i)] for i in range(len(names))]
        if not isinstance(names, list):
            raise ValueError(type(names).__name__)
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"{path}: its metadata {key!r} should hold the class names as a JSON list, or as an object with the keys 0, 1 and "
            f"so on ({_first_line(error)})."
        ) from None
    return tuple(str(name) for name in names)


def _told(shape: list[Any]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
