"""Models by name: built-in networks, functions, folders that Limbeck wrote, models of timm, torchvision or Transformers.

A model is saved as a folder with ``model.safetensors`` and ``config.json``. A Hugging Face model saves itself. Nothing is
pickled, and nothing is unpickled.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.atomic_files import atomic_files, write_json
from limbeck.errors import ArgumentError, ModelError
from limbeck.field_checks import check_fields
from limbeck.models.functions import import_function, is_function
from limbeck.models.hugging_face import build_classifier, load_as_saved, load_trained_classifier
from limbeck.models.input_format import InputFormat, input_format_of_processor
from limbeck.models.libraries import build_of_library, library_format, library_of, load_of_library
from limbeck.models.networks import BUILT_IN
from limbeck.models.sentences import load_sentence_model, names_sentence_model

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
MODEL_CARD = "README.md"
_WEIGHT_FILES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
"""The weights of one model: a file, or several with an index."""
NO_WEIGHTS = (
    "has no weights yet. Name a trained model (pretrained: true for one of timm or torchvision), or add teacher.training to "
    "train it first."
)
"""What is said of a teacher whose weights would be drawn at random."""
MODEL_KEY = "limbeck_model"
"""The key of ``config.json`` with the name of the model. Only a folder that Limbeck wrote has it."""


@dataclass(frozen=True)
class DataShape:
    """What a model must know about the data: how many classes there are, and how large an image or a row is."""

    classes: int
    """The number of classes, or of numbers in regression; 0 for embeddings and tokens, whose number is the model's."""
    image: tuple[int, int, int] | None = None
    """The channels, height and width of an image; None for texts and tables."""
    features: int | None = None
    """The number of values of a table's row; None for images and texts."""

    def network_settings(self, name: str) -> dict[str, int]:
        """Return the settings of a built-in network that follow from the data.

        Args:
            name: a key of ``BUILT_IN``.

        Raises:
            ModelError: the network does not take texts or tables, or not images of this size.
        """
        if self.features is not None and name == "mlp":
            return {"inputs": self.features, "classes": self.classes}
        if self.image is None:
            what, remedy = ("text", "a Hugging Face model") if self.features is None else ("a table", "mlp")
            raise ModelError(
                f"model {name!r} takes images, but the data are {what}. Name {remedy}, or module:function."
            )
        channels, height, width = self.image
        if name == "mlp":
            return {"inputs": channels * height * width, "classes": self.classes}
        if name == "cnn":
            if height != width or height % 4:
                raise ModelError(
                    f"model 'cnn' takes square images whose side is divisible by 4, got {height} x {width}. "
                    "Set data.image_size, or use 'resnet', which takes any size."
                )
            return {"channels": channels, "size": height, "classes": self.classes}
        return {"channels": channels, "classes": self.classes}


@dataclass(frozen=True)
class ModelConfig:
    """A model by name with its settings: the ``student`` section of a config, and part of the ``teacher`` section.

    Raises:
        ArgumentError: a field has another type, or does not fit the kind of model.
    """

    model: str
    """The model: "mlp", "cnn", "resnet"; "unet" or "fcn", which tell a class for each pixel; ``package.module:function``; a
    folder that Limbeck wrote, such as a run's ``student``; an image classifier of timm or torchvision, as in
    "timm:resnet18"; or a Hugging Face id or folder, also of sentence-transformers."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The arguments that the model is built with, such as {hidden: [64]} for "mlp", or entries of a Hugging Face config."""
    pretrained: bool = False
    """If true, a model of timm or torchvision has its published weights. A model that is trained gets a new head if the data
    has another number of classes; a teacher that is used as it is keeps its own."""
    from_scratch: bool = False
    """If true, only the architecture of a Hugging Face model is taken, and its weights are drawn at random."""
    function: str | None = None
    """The ``package.module:function`` that made the model of the folder ``model``. Loading such a folder calls the function,
    so it is refused unless the function is named here."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.pretrained and library_of(self.model) is None:
            raise ArgumentError(
                "pretrained", "is for models of timm and torchvision, as in timm:resnet18. Leave it out."
            )

    @property
    def is_untrained(self) -> bool:
        """Return True if the model's weights are drawn at random."""
        return (
            self.model in BUILT_IN or self.from_scratch or (library_of(self.model) is not None and not self.pretrained)
        )

    def input_format(self) -> InputFormat | None:
        """Return the format of the images that the model was trained on, before it is built; None if nothing tells it.

        Raises:
            ModelError: there is no such model, or its files cannot be understood.
        """
        if library_of(self.model) is not None:
            return library_format(self.model) if self.pretrained else None
        if self.is_untrained or is_function(self.model) or is_written_by_limbeck(Path(self.model)):
            return None
        return input_format_of_processor(self.model)


def build_model(
    config: ModelConfig,
    shape: DataShape,
    *,
    labels: list[str] | None = None,
    problem_type: str | None = None,
    head: str | None = None,
) -> nn.Module:
    """Build or load the model that a config names.

    Args:
        config: the name and the settings. A ``package.module:function`` is called with the settings and, where it has
            parameters of these names, with ``classes`` or ``num_classes``, and with ``image`` or, of a table, ``features``.
        shape: the number of classes and the size of an image.
        labels: the names of the classes, which a Hugging Face model keeps in its config.
        problem_type: what its outputs are for, which a Hugging Face model keeps in its config as well.
        head: the class of Transformers that builds a Hugging Face model, such as "AutoModelForTokenClassification"; by default
            that of a classifier of images or texts.

    Returns:
        The model. Its weights are random unless the name is that of a folder or of a Hugging Face model.

    Raises:
        ModelError: the name is not known, the settings do not fit, or a folder that Limbeck wrote is asked for
            ``from_scratch``.
    """
    name, settings = config.model, dict(config.settings)
    if name in BUILT_IN:
        return _construct(name, BUILT_IN[name], {**shape.network_settings(name), **settings})
    if library_of(name) is not None:
        if shape.image is None:
            raise ModelError(
                f"model {name!r} takes images, and the data are not. Name a Hugging Face model, or mlp for rows."
            )
        return build_of_library(name, settings, shape.classes, shape.image[0], pretrained=config.pretrained)
    if is_function(name):
        return _build_with_function(name, settings, shape)
    if is_written_by_limbeck(Path(name)):
        if config.from_scratch:
            raise ModelError(
                f"model {name!r}: from_scratch is for Hugging Face models, and this folder was written by Limbeck. "
                f"Name its network and settings instead, which are in its {CONFIG}."
            )
        return load_model(name, model=config.function)
    if names_sentence_model(name):
        if settings or config.from_scratch:
            raise ModelError(f"model {name!r}: sentence-transformers takes neither settings nor from_scratch.")
        return load_sentence_model(name)
    if problem_type is not None:
        settings = {"problem_type": problem_type, **settings}
    return build_classifier(name, settings, shape.classes, labels, from_scratch=config.from_scratch, head=head)


def load_trained_model(config: ModelConfig, shape: DataShape, *, head: str | None = None) -> nn.Module:
    """Load the trained model that a config names, with its own classes in its own order.

    Args:
        config: the name and the settings.
        shape: the number of classes and the size of an image, for a function that takes them.
        head: as in ``build_model``.

    Returns:
        The model, in evaluation mode.

    Raises:
        ModelError: the name is not known, or the model has weights that are drawn at random: a built-in network, one
            ``from_scratch``, a checkpoint without a head, or a function that builds an untrained model.
    """
    name = config.model
    if config.is_untrained:
        raise ModelError(f"model {name!r}: {NO_WEIGHTS}")
    if library_of(name) is not None:
        return load_of_library(name, dict(config.settings)).eval()
    if is_function(name):
        with torch.random.fork_rng(devices=[]):
            first, second = (_build_seeded(config, shape, seed) for seed in (0, 1))
        weights = dict(second.named_parameters())
        drawn = [key for key, value in first.named_parameters() if not torch.equal(value, weights[key])]
        if drawn:
            raise ModelError(
                f"model {name!r}: its weights are drawn at random: {drawn[0]} is another each time it is built. Have the "
                "function load trained weights, or add teacher.training to train the model first."
            )
        return first.eval()
    if is_written_by_limbeck(Path(name)):
        return load_model(name, model=config.function)
    if names_sentence_model(name):
        return load_sentence_model(name)
    return load_trained_classifier(name, dict(config.settings), head=head).eval()


def _build_seeded(config: ModelConfig, shape: DataShape, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return _build_with_function(config.model, dict(config.settings), shape)


def functions_of(config: ModelConfig) -> list[str]:
    """Return the functions that a config may call: those that whoever wrote the config has named.

    Args:
        config: the name and the settings of a model.

    Returns:
        Names ``package.module:function``; empty for a built-in network and for a model of Transformers.
    """
    named = [config.model] if is_function(config.model) else []
    return named if config.function is None else [*named, config.function]


def save_model(
    model: nn.Module, folder: str | Path, config: ModelConfig | None = None, shape: DataShape | None = None
) -> None:
    """Write ``model.safetensors`` and ``config.json``. A model with a ``save_pretrained`` saves itself.

    Files of the same names are replaced, and so are the weights of an earlier model, however many files they had. All other
    files in the folder stay, and so does a model card (README.md) that is there already.

    Args:
        model: the model.
        folder: the folder to write; it is made if it does not exist.
        config: what the model was built from. ``load_model`` needs it, unless the model is a Hugging Face one.
        shape: what the model was built for. ``load_model`` needs it for a function that takes ``classes`` or ``image``.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    with model_files(folder) as aside:
        if hasattr(model, "save_pretrained"):
            model.save_pretrained(aside)  # pyright: ignore[reportCallIssue]
            return
        # Tied weights are written under each of their names, so that a plain load_state_dict finds them all.
        state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
        save_file(state, str(aside / WEIGHTS), metadata={"format": "pt"})
        if config is not None:
            write_json(aside / CONFIG, _described(config, shape))


@contextmanager
def model_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder for the files of a model, which are moved to ``folder`` when the block ends without an error.

    Args:
        folder: as that of ``save_model``, which says what stays in it.

    Yields:
        The temporary folder.
    """
    with atomic_files(folder, keep=[MODEL_CARD]) as aside:
        yield aside
        written = {path.name for path in aside.iterdir()}
    if any(_WEIGHT_FILES.fullmatch(name) for name in written):
        for path in folder.iterdir():  # a loader would take the old weights if they had another number of files
            if _WEIGHT_FILES.fullmatch(path.name) and path.name not in written:
                path.unlink()


def _described(config: ModelConfig, shape: DataShape | None) -> dict[str, Any]:
    """Return what ``config.json`` says about a model that does not save itself."""
    if is_written_by_limbeck(Path(config.model)):  # the new folder must not depend on the one that the model came from
        return _read_config(Path(config.model))
    settings = dict(config.settings)
    if config.model in BUILT_IN and shape is not None:
        settings = {**shape.network_settings(config.model), **settings}
    built_for = {} if shape is None else {"classes": shape.classes, "image": shape.image}
    if shape is not None and shape.features is not None:
        built_for["features"] = shape.features
    return {MODEL_KEY: config.model, "settings": settings, **built_for}


def load_model(folder: str | Path, *, model: str | Collection[str] | None = None) -> nn.Module:
    """Load what ``save_model`` wrote, or a Hugging Face model with the head that it was saved with.

    A folder is data: it may come from somebody else. A built-in network is made as the folder describes it. A folder that
    names a function is refused unless the caller names the same function, since loading calls it.

    Args:
        folder: a folder; or the Hugging Face id of a model.
        model: the ``package.module:function`` that may be called, or several of them. It is called only if the folder names
            it. Other names change nothing, so a config's ``model`` can be passed whatever it is.

    Returns:
        The model, in evaluation mode.

    Raises:
        ModelError: the folder holds no model, or one that was saved without its config; or it names a function that
            ``model`` does not name.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if names_sentence_model(str(folder)):
        return load_sentence_model(str(folder))
    folder = Path(folder)
    if folder.is_dir() and not (folder / CONFIG).is_file():
        raise ModelError(
            f"{folder}: no {CONFIG} here. Expected a folder with {WEIGHTS} and {CONFIG}, as a run's student/."
        )
    saved = _read_config(folder) if folder.is_dir() else {}
    if MODEL_KEY not in saved:
        return load_as_saved(str(folder)).eval()
    _check_may_be_built(saved[MODEL_KEY], folder, [model] if isinstance(model, str) else model or ())
    image = saved.get("image")
    shape = DataShape(
        saved.get("classes", 0), None if image is None else (image[0], image[1], image[2]), saved.get("features")
    )
    built = build_model(ModelConfig(saved[MODEL_KEY], saved.get("settings", {})), shape)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: {WEIGHTS} is missing.")
    try:
        built.load_state_dict(load_file(str(folder / WEIGHTS)))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS}: not the weights of this model ({str(error).strip()}).") from None
    return built.eval()


def _check_may_be_built(name: Any, folder: Path, named: Collection[str]) -> None:
    """Refuse to build what a folder names, unless it is a built-in network or the caller has named it too."""
    if isinstance(name, str) and (name in BUILT_IN or library_of(name) is not None or name in named):
        return
    raise ModelError(
        f"{folder / CONFIG}: names the model {name!r}, which is not built in, and a folder does not decide which code runs. "
        f"If you trust that function, name it yourself: load_model(folder, model={name!r}), function: {name} beside model: in "
        f"a config, or --function {name} on the command line."
    )


def is_written_by_limbeck(folder: Path) -> bool:
    """Return True if ``save_model`` wrote a folder's config.

    Args:
        folder: the folder.

    Raises:
        ModelError: its config is not JSON.
    """
    return (folder / CONFIG).is_file() and MODEL_KEY in _read_config(folder)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise ModelError(f"{folder / CONFIG}: not JSON ({error}).") from None


def _construct(name: str, make: Callable[..., Any], settings: dict[str, Any]) -> nn.Module:
    """Return ``make(**settings)``, or say which settings do not fit."""
    try:
        model = make(**settings)
    except TypeError as error:
        raise ModelError(f"model {name!r}: {error}. Settings given: {settings}.") from None
    if not isinstance(model, nn.Module):
        raise ModelError(f"model {name!r}: expected a torch.nn.Module, got {type(model).__name__}.")
    return model


def _build_with_function(name: str, settings: dict[str, Any], shape: DataShape) -> nn.Module:
    """Call the function ``package.module:function`` with the settings, and with what it asks to know about the data."""
    make = import_function(name)
    parameters = inspect.signature(make).parameters
    offered = {"classes": shape.classes, "num_classes": shape.classes, "image": shape.image}
    if shape.features is not None:
        offered["features"] = shape.features
    known = {key: value for key, value in offered.items() if key in parameters}
    return _construct(name, make, {**known, **settings})
