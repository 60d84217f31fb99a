"""Models by name: a built-in network, a Hugging Face checkpoint, somebody's own function, or a folder Limbeck wrote.

A model is saved as a folder: ``model.safetensors`` and ``config.json``, for Hugging Face models just as they save
themselves. Nothing is pickled, and nothing is unpickled.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.atomic_files import atomic_folder, atomic_write, write_json
from limbeck.errors import ModelError
from limbeck.models import networks

BUILT_IN: dict[str, type[nn.Module]] = {"mlp": networks.MLP, "cnn": networks.CNN, "resnet": networks.ResNet}
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_MARK = "limbeck_model"


@dataclass(frozen=True)
class DataShape:
    """What the data ask of a model: the number of classes, and the size of an image, (C, H, W)."""

    classes: int
    image: tuple[int, int, int] | None = None

    def settings(self, name: str) -> dict[str, int]:
        """The settings of a built-in network that follow from the data."""
        if self.image is None:
            raise ModelError(
                f"model {name!r} takes images, but the data are text. Name a Hugging Face model, or module:function."
            )
        channels, height, width = self.image
        if name == "mlp":
            return {"inputs": channels * height * width, "classes": self.classes}
        if name == "cnn":
            if height != width or height % 4:
                raise ModelError(
                    f"model 'cnn' takes square images whose side is divisible by 4, got {height} x {width}. "
                    "Set data.image.size, or use 'resnet', which takes any size."
                )
            return {"channels": channels, "size": height, "classes": self.classes}
        return {"channels": channels, "classes": self.classes}


@dataclass(frozen=True)
class ModelConfig:
    """A model by name with its settings: the ``student`` section of a config, and the base of its ``teacher`` section."""

    model: str
    """"mlp", "cnn", "resnet", ``package.module:function``, a folder that Limbeck wrote, or a Hugging Face id or folder."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that the model is built with, such as {hidden: [64]} for "mlp"."""
    from_scratch: bool = False
    """Take only the architecture of a Hugging Face model, with fresh weights."""


def build_model(config: ModelConfig, shape: DataShape, *, labels: list[str] | None = None) -> nn.Module:
    """Build or load the model that ``config`` names.

    Args:
        config: ``model`` is "mlp", "cnn" or "resnet"; a folder that ``save_model`` wrote; ``package.module:function``,
            called with the settings and, where it takes them, ``classes`` and ``image``; else a Hugging Face id or
            folder.
        shape: what the data ask for.
        labels: the names of the classes, which a Hugging Face model keeps in its config.

    Raises:
        ModelError: the name is not known, or the settings do not fit.
    """
    name, settings = config.model, dict(config.settings)
    if name in BUILT_IN:
        settings = {**shape.settings(name), **settings}
        return _call(name, BUILT_IN[name], settings)
    if ":" in name and not Path(name).exists():
        return _user_model(name, settings, shape)
    if (Path(name) / CONFIG).is_file() and _MARK in _read_config(Path(name)):
        return load_model(name)
    return _hugging_face(name, settings, shape, labels, config.from_scratch)


def save_model(
    model: nn.Module, folder: str | Path, config: ModelConfig | None = None, shape: DataShape | None = None
) -> None:
    """Write ``model.safetensors`` and ``config.json``; a Hugging Face model saves itself.

    ``config`` and ``shape`` go into the folder's ``config.json``, so that ``load_model`` can build the model again.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if hasattr(model, "save_pretrained"):
        with atomic_folder(folder) as aside:
            model.save_pretrained(aside)  # pyright: ignore[reportCallIssue]
        return
    # Tied weights are written under each of their names, so that a plain load_state_dict finds them all.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    with atomic_write(folder / WEIGHTS) as aside:
        save_file(state, str(aside), metadata={"format": "pt"})
    if config is not None:
        built = {} if shape is None else {"classes": shape.classes, "image": shape.image}
        settings = dict(config.settings)
        if config.model in BUILT_IN and shape is not None:
            settings = {**shape.settings(config.model), **settings}
        write_json(folder / CONFIG, {_MARK: config.model, "settings": settings, **built})


def load_model(folder: str | Path) -> nn.Module:
    """Load what ``save_model`` wrote, or a Hugging Face model with the head that it was saved with; in eval mode.

    Raises:
        ModelError: the folder holds no model, or one that was written without its name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if folder.is_dir() and not (folder / CONFIG).is_file():
        raise ModelError(
            f"{folder}: no {CONFIG} here. Expected a folder with {WEIGHTS} and {CONFIG}, as a run's student/."
        )
    saved = _read_config(folder) if folder.is_dir() else {}
    if _MARK not in saved:
        return _hugging_face_as_saved(str(folder)).eval()
    image = saved.get("image")
    shape = DataShape(saved.get("classes", 0), None if image is None else (image[0], image[1], image[2]))
    model = build_model(ModelConfig(saved[_MARK], saved.get("settings", {})), shape)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: {WEIGHTS} is missing.")
    try:
        model.load_state_dict(load_file(str(folder / WEIGHTS)))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS}: not the weights of this model ({str(error).strip()}).") from None
    return model.eval()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise ModelError(f"{folder / CONFIG}: not JSON ({error}).") from None


def _call(name: str, make: Any, settings: dict[str, Any]) -> nn.Module:
    try:
        model = make(**settings)
    except TypeError as error:
        raise ModelError(f"model {name!r}: {error}. Settings given: {settings}.") from None
    if not isinstance(model, nn.Module):
        raise ModelError(f"model {name!r}: expected a torch.nn.Module, got {type(model).__name__}.")
    return model


def _user_model(name: str, settings: dict[str, Any], shape: DataShape) -> nn.Module:
    import inspect

    module_name, function_name = name.split(":", 1)
    try:
        make = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"model {name!r}: {error}. Expected package.module:function, importable from here.") from None
    parameters = inspect.signature(make).parameters
    offered = {"classes": shape.classes, "image": shape.image}
    settings = {**{key: value for key, value in offered.items() if key in parameters}, **settings}
    return _call(name, make, settings)


def _hugging_face_as_saved(name: str) -> nn.Module:
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name)
        architecture = getattr(transformers, (config.architectures or ["none"])[0], None)
        if architecture is None:
            raise ValueError(f"its config names no architecture that Transformers knows ({config.architectures}).")
        return architecture.from_pretrained(name, config=config, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r}: {str(error).strip().splitlines()[0]}") from None


def _hugging_face(
    name: str, settings: dict[str, Any], shape: DataShape | None, labels: list[str] | None, from_scratch: bool
) -> nn.Module:
    from transformers import (
        AutoConfig,
        AutoModelForImageClassification,
        AutoModelForSequenceClassification,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as IMAGE_MODELS

    names = None
    if shape is not None:
        names = {"num_labels": shape.classes}
        if labels is not None:
            names |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    try:
        config = AutoConfig.from_pretrained(name, **(names or {}), **settings)
        is_image = config.model_type in IMAGE_MODELS
        auto: Any = AutoModelForImageClassification if is_image else AutoModelForSequenceClassification
        if from_scratch:
            return auto.from_config(config)
        return auto.from_pretrained(
            name, config=config, ignore_mismatched_sizes=shape is not None, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model {name!r}: {reason} Expected one of {', '.join(BUILT_IN)}, a run's student/ folder, "
            "package.module:function, or a Hugging Face id or folder with safetensors weights."
        ) from None
