"""Models of Transformers: with a head for the classes of the data, or just as they were saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.errors import ModelError, suggestion
from limbeck.models.networks import BUILT_IN


def build_classifier(
    name: str,
    settings: dict[str, Any],
    classes: int,
    labels: list[str] | None,
    *,
    from_scratch: bool,
    head: str | None = None,
) -> nn.Module:
    """Build a model of Transformers with a head for the classes of the data.

    Args:
        name: a Hugging Face id or folder with safetensors weights.
        settings: entries of the model's config that are changed.
        classes: the number of classes; 0 for a head whose width is the model's, as over tokens. A head for another number is
            replaced by a new one.
        labels: the names of the classes, which the model keeps in its config; None for the names it has.
        from_scratch: take only the architecture, with weights drawn at random.
        head: the class of Transformers that builds the model; by default that of a classifier of images or texts.

    Returns:
        The model.

    Raises:
        ModelError: there is no such model, or it cannot be built with these settings.
    """
    of_classes: dict[str, Any] = {"num_labels": classes} if classes else {}
    if classes and labels is not None:
        of_classes |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    config, auto = _classifier(name, settings, of_classes, head)
    try:
        if from_scratch:
            model = auto.from_config(config)
            model.name_or_path = ""  # no weights come from there, and so the tokenizer there says nothing about them
            return model
        with _without_bar(name):
            return auto.from_pretrained(name, config=config, ignore_mismatched_sizes=True, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(name, error) from None


def read_config(name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """Return the config of a model of Transformers.

    Args:
        name: a Hugging Face id or folder.
        settings: entries that are changed.

    Raises:
        ModelError: there is no such model, its config needs code of its own, or an entry has a wrong type.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False, **(settings or {}))
    except StrictDataclassError as error:
        raise ModelError(f"model {name!r}: {' '.join(str(error).split())}") from None
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from None


def unknown_settings(config: Any, settings: Mapping[str, Any], section: str = "settings") -> dict[str, str]:
    """Return a fault for each setting that a model's config lacks, by its key. Transformers would ignore it.

    Args:
        config: the config of a model of Transformers, as it was saved.
        settings: entries that are to be changed; a mapping for a config inside of the config.
        section: the key that holds the settings.
    """
    from transformers import PreTrainedConfig

    faults: dict[str, str] = {}
    for name, value in settings.items():
        key = f"{section}.{name}"
        inner = getattr(config, name, None)
        if not hasattr(config, name):
            known = [other for other in (*vars(config), *config.attribute_map) if not other.startswith("_")]
            faults[key] = f"unknown entry of {type(config).__name__}{suggestion(name, known)}"
        elif isinstance(inner, PreTrainedConfig) and isinstance(value, Mapping):
            faults |= unknown_settings(inner, value, key)
    return faults


def _classifier(
    name: str, settings: dict[str, Any], of_classes: dict[str, Any] | None = None, head: str | None = None
) -> tuple[Any, Any]:
    """Return the config of a model and the auto class that builds it."""
    import transformers
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as IMAGE_MODELS

    if settings and (faults := unknown_settings(read_config(name), settings)):
        raise ModelError(*(f"{key}: {message}" for key, message in faults.items()))
    config = read_config(name, {**(of_classes or {}), **settings})
    if head is not None:
        return config, getattr(transformers, head)
    is_image = config.model_type in IMAGE_MODELS
    return config, AutoModelForImageClassification if is_image else AutoModelForSequenceClassification


def _not_loaded(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"model {name!r}: {_first_line(error)} Expected one of {', '.join(BUILT_IN)}, a run's student/ folder, "
        "package.module:function, or a Hugging Face id or folder with safetensors weights."
    )


def load_trained_classifier(name: str, settings: dict[str, Any], *, head: str | None = None) -> nn.Module:
    """Load a model of Transformers with the head that it was trained with.

    Args:
        name: a Hugging Face id or folder with safetensors weights.
        settings: entries of the model's config that are changed.
        head: as in ``build_classifier``.

    Returns:
        The model. Its config keeps the names of its own classes, in its own order.

    Raises:
        ModelError: there is no such model, or some of its weights are not in the checkpoint, such as those of the head.
    """
    config, auto = _classifier(name, settings, head=head)
    try:
        with _without_bar(name):
            model, info = auto.from_pretrained(name, config=config, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(name, error) from None
    parameters = dict(model.named_parameters())
    fresh = sorted(key for key in info["missing_keys"] if key in parameters)
    if fresh:
        raise ModelError(
            f"model {name!r}: the checkpoint has no trained weights for {', '.join(fresh[:4])}"
            f"{' and others' if len(fresh) > 4 else ''}. Weights drawn at random teach nothing. Name a checkpoint of a trained "
            f"{type(model).__name__}, or add teacher.training to train it first."
        )
    return model


def load_as_saved(name: str) -> nn.Module:
    """Load a model of Transformers with the head that it was saved with.

    Args:
        name: a Hugging Face id or folder with safetensors weights.

    Returns:
        An instance of the class that its config names.

    Raises:
        ModelError: there is no such model, or its config names no class of Transformers.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        architecture = getattr(transformers, (config.architectures or ["none"])[0], None)
        if not (isinstance(architecture, type) and issubclass(architecture, transformers.PreTrainedModel)):
            raise ValueError(f"its config names no architecture that Transformers knows ({config.architectures}).")
        with _without_bar(name):
            return architecture.from_pretrained(name, config=config, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r}: {_first_line(error)}") from None


@contextmanager
def _without_bar(name: str) -> Iterator[None]:
    """Show no progress bar while a folder is read; of a download it tells how far it is."""
    from transformers.utils import logging

    if not Path(name).is_dir() or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
