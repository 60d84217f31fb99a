"""Image classifiers of timm and torchvision by name, as in ``timm:resnet18``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from limbeck.errors import ModelError
from limbeck.models.input_format import InputFormat

LIBRARIES = ("timm", "torchvision")
"""The libraries whose names may stand before a model's name."""
SET_BY_LIMBECK = (
    *("num_classes", "in_chans", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
    *("weights", "weights_backbone", "cache_dir", "scriptable", "exportable", "features_only"),
)
"""The arguments of the two libraries that no setting may give: they would load other files or another head."""


def library_of(name: str) -> str | None:
    """Return the library that a model's name begins with, or None.

    Args:
        name: the name, such as "timm:resnet18".
    """
    library, separator, _ = name.partition(":")
    return library if separator and library in LIBRARIES else None


def library_faults(name: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with the name of a model of timm or torchvision, or with its settings.

    Args:
        name: the name with the library before it.
        settings: the arguments that the model is built with.

    Returns:
        One message for each key at fault; empty if nothing was found. A library that is not installed is told later.
    """
    faults = {
        f"settings.{key}": "follows from the data and from pretrained. Leave it out."
        for key in settings
        if key in SET_BY_LIMBECK
    }
    model = name.partition(":")[2]
    if ":" in model or "/" in model:
        faults["model"] = (
            f"expected the name of an architecture, as in timm:resnet18, got {name!r}. A model on the hub, "
            + ("such as timm/resnet18.a1_in1k, is named by its id alone.")
        )
    return faults


def build_of_library(
    name: str, settings: dict[str, Any], classes: int, channels: int, *, pretrained: bool
) -> nn.Module:
    """Build a model of timm or torchvision with a head for the classes of the data.

    Args:
        name: the name with the library before it.
        settings: the arguments that the model is built with.
        classes: the number of classes.
        channels: the channels of the images.
        pretrained: load the published weights. A head for another number of classes is replaced by a new one.

    Returns:
        The model. If it is pretrained, its ``input_format`` says what its images were like.

    Raises:
        ModelError: the library has no such model or no weights of it, or the settings or the channels do not fit.
    """
    if channels != 3 and (pretrained or library_of(name) == "torchvision"):
        raise ModelError(
            f"model {name!r}: takes images of 3 channels, and the data has {channels}. Set data.channels: 3."
        )
    if library_of(name) == "timm":
        return _timm(name, {**settings, "num_classes": classes, "in_chans": channels}, pretrained)
    if not pretrained:
        return _torchvision(name, {**settings, "num_classes": classes})
    model = _pretrained_torchvision(name, settings)
    published = len(model.class_names)
    if classes != published:
        del model.class_names
        _replace_heads(model, published, classes)
    return model


def load_of_library(name: str, settings: dict[str, Any]) -> nn.Module:
    """Load a model of timm or torchvision with its published weights and head.

    Args:
        name: the name with the library before it.
        settings: the arguments that the model is built with.

    Returns:
        The model. Its ``input_format`` says what its images were like, and its ``class_names``, if known, what its classes are.

    Raises:
        ModelError: the library has no such model or no weights of it, or the weights have no head.
    """
    model = _timm(name, settings, True) if library_of(name) == "timm" else _pretrained_torchvision(name, settings)
    if getattr(model, "num_classes", None) == 0:
        raise ModelError(f"model {name!r}: its published weights have no head for classes. Add teacher.training.")
    return model


def library_format(name: str) -> InputFormat:
    """Return the format of the images that the published weights of a model were trained on.

    Args:
        name: the name with the library before it.

    Raises:
        ModelError: the library has no such model, or no weights of it.
    """
    if library_of(name) == "timm":
        return _timm_format(name)
    return _torchvision_format(name, _torchvision_weights(name))


def _timm(name: str, arguments: dict[str, Any], pretrained: bool) -> nn.Module:
    _check(name, arguments)
    timm = _imported("timm")
    model = _called(name, timm.create_model, name.partition(":")[2], pretrained=pretrained, **arguments)
    if not pretrained:
        return model
    model.input_format = _timm_format(name)
    cfg = model.pretrained_cfg
    if model.num_classes == cfg["num_classes"]:
        names = cfg.get("label_names")
        if names is None and str(cfg.get("tag")).endswith("in1k") and model.num_classes == 1000:
            names = timm.data.ImageNetInfo().label_names()
        if names is not None:
            model.class_names = tuple(names)
    return model


def _timm_format(name: str) -> InputFormat:
    timm = _imported("timm")
    cfg = _called(name, timm.get_pretrained_cfg, name.partition(":")[2], allow_unregistered=False)
    if not cfg.has_weights:
        raise ModelError(f"model {name!r}: timm has no weights of it. Leave out pretrained, or name another model.")
    _, height, width = cfg.input_size
    return InputFormat(
        f"timm's pretrained_cfg of {name}", (height, width), tuple(cfg.mean), tuple(cfg.std), cfg.interpolation
    )


def _torchvision(name: str, arguments: dict[str, Any]) -> Any:
    _check(name, arguments)
    models, model = _imported("torchvision").models, name.partition(":")[2]
    if model not in models.list_models(module=models):
        raise ModelError(f"model {name!r}: torchvision has no image classifier of this name.")
    return _called(name, models.get_model, model, weights=None, **arguments)


def _torchvision_weights(name: str) -> Any:
    models, model = _imported("torchvision").models, name.partition(":")[2]
    return _called(name, models.get_model_weights, model).DEFAULT


def _pretrained_torchvision(name: str, settings: dict[str, Any]) -> Any:
    weights = _torchvision_weights(name)
    names = [str(label) for label in weights.meta["categories"]]
    model = _torchvision(name, {**settings, "num_classes": len(names)})
    if hasattr(model, "transform_input"):
        raise ModelError(
            f"model {name!r}: its published weights expect images that are normalised a second time inside. Name another model."
        )
    # torchvision's own loading would unpickle whatever the file holds
    state = _called(name, weights.get_state_dict, check_hash=True, weights_only=True)
    _called(name, model.load_state_dict, state)
    model.input_format = _torchvision_format(name, weights)
    model.class_names = tuple(names)
    return model


def _torchvision_format(name: str, weights: Any) -> InputFormat:
    done = weights.transforms()
    side, resample = done.crop_size[0], done.interpolation.value
    return InputFormat(f"torchvision's transforms of {name}", (side, side), tuple(done.mean), tuple(done.std), resample)


def _replace_heads(model: nn.Module, published: int, classes: int) -> None:
    """Put new layers in the place of those that give one output for each published class."""
    for parent in list(model.modules()):
        for key, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear) and layer.out_features == published:
                setattr(parent, key, nn.Linear(layer.in_features, classes))
            elif isinstance(layer, nn.Conv2d) and layer.out_channels == published:
                setattr(parent, key, nn.Conv2d(layer.in_channels, classes, layer.kernel_size))  # pyright: ignore[reportArgumentType]


def _check(name: str, arguments: dict[str, Any]) -> None:
    given = {key: value for key, value in arguments.items() if key not in ("num_classes", "in_chans")}
    if faults := library_faults(name, given):
        raise ModelError(*(f"model {name!r}: {key}: {message}" for key, message in faults.items()))


def _imported(library: str) -> Any:
    """Return the module of a library. One that is not installed raises its own error, which a command explains."""
    import importlib

    try:
        return importlib.import_module(library)
    except RuntimeError as error:
        raise ModelError(
            f"{library} cannot be imported: {_first_line(error)}. torchvision must be the build for the installed torch: "
            "install both from one index, such as https://download.pytorch.org/whl/cpu."
        ) from None


def _called(name: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what a function of a library returns, or say in one line why it fails."""
    try:
        return function(*arguments, **named)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"model {name!r}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
