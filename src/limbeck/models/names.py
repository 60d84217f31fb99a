"""What is wrong with a model's name and settings, as far as that can be told before a model is built or a hub is asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from limbeck.errors import ModelError, expected_name, suggestion
from limbeck.models.functions import import_function, is_function
from limbeck.models.hugging_face import read_config, unknown_settings
from limbeck.models.libraries import library_faults, library_of
from limbeck.models.loading import CONFIG, ModelConfig, is_written_by_limbeck
from limbeck.models.networks import BUILT_IN
from limbeck.models.sentences import names_sentence_model

OTHER_NAMES = (
    "package.module:function",
    "timm:NAME",
    "torchvision:NAME",
    "a folder with a config.json",
    "a Hugging Face id",
)


def model_faults(config: ModelConfig) -> dict[str, str]:
    """Return what is wrong with a model's name and settings.

    A function is imported and not called. The settings of a model that is still on a hub are checked when it is loaded.

    Args:
        config: the name and the settings.

    Returns:
        One message for each key at fault, such as "settings.hiden"; empty if nothing was found.
    """
    name, folder = config.model, Path(config.model)
    if name in BUILT_IN:
        return _unknown_arguments(BUILT_IN[name], config.settings)
    if library_of(name) is not None:
        return library_faults(name, config.settings)
    try:
        if is_function(name):
            return _unknown_arguments(import_function(name), config.settings)
        if folder.is_dir():
            return _faults_of_folder(folder, config)
    except ModelError as error:
        return {"model": str(error).removeprefix(f"model {name!r}: ")}
    return {} if _could_be_on_a_hub(name) else {"model": expected_name(name, [*BUILT_IN, *OTHER_NAMES])}


def _faults_of_folder(folder: Path, config: ModelConfig) -> dict[str, str]:
    if names_sentence_model(str(folder)):
        return (
            {"settings": "have no effect on a model of sentence-transformers. Leave them out."}
            if config.settings
            else {}
        )
    if not (folder / CONFIG).is_file():
        return {"model": f"{folder} has no {CONFIG}. Expected the folder of a model, such as a run's student/."}
    if not is_written_by_limbeck(folder):
        return unknown_settings(read_config(str(folder)), config.settings)
    if config.settings:
        return {"settings": f"has no effect on {folder}, which was saved with its own settings. Leave it out."}
    return {}


def _could_be_on_a_hub(name: str) -> bool:
    """Return True unless a name is no id, or is nearly that of a built-in network."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name or not suggestion(name, BUILT_IN).startswith(", did")


def _unknown_arguments(make: Callable[..., Any], settings: Iterable[str]) -> dict[str, str]:
    """Return a fault for each setting that a class or function does not take."""
    parameters = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {}
    return {
        f"settings.{name}": f"unknown argument{suggestion(name, parameters)}"
        for name in settings
        if name not in parameters
    }
