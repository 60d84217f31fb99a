"""Models of Transformers: with a head for the classes of the data, or just as they were saved."""

from __future__ import annotations

from typing import Any

from torch import nn

from limbeck.errors import ModelError
from limbeck.models.networks import BUILT_IN


def build_classifier(
    name: str, settings: dict[str, Any], classes: int, labels: list[str] | None, *, from_scratch: bool
) -> nn.Module:
    """Build an image or text classifier of Transformers.

    Args:
        name: a Hugging Face id or folder with safetensors weights.
        settings: entries of the model's config that are changed.
        classes: the number of classes. A head for another number is replaced by a new one.
        labels: the names of the classes, which the model keeps in its config; None for the names it has.
        from_scratch: take only the architecture, with weights drawn at random.

    Returns:
        The model.

    Raises:
        ModelError: there is no such model, or it cannot be built with these settings.
    """
    head: dict[str, Any] = {"num_labels": classes}
    if labels is not None:
        head |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    config, auto = _classifier(name, {**head, **settings})
    try:
        if from_scratch:
            model = auto.from_config(config)
            model.name_or_path = ""  # no weights come from there, and so the tokenizer there says nothing about them
            return model
        return auto.from_pretrained(name, config=config, ignore_mismatched_sizes=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from None


def _classifier(name: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    """Return the config of a classifier and the auto class that builds it."""
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as IMAGE_MODELS

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **settings)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from None
    is_image = config.model_type in IMAGE_MODELS
    return config, AutoModelForImageClassification if is_image else AutoModelForSequenceClassification


def _not_loaded(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"model {name!r}: {_first_line(error)} Expected one of {', '.join(BUILT_IN)}, a run's student/ folder, "
        "package.module:function, or a Hugging Face id or folder with safetensors weights."
    )


def load_trained_classifier(name: str, settings: dict[str, Any]) -> nn.Module:
    """Load an image or text classifier of Transformers with the head that it was trained with.

    Args:
        name: a Hugging Face id or folder with safetensors weights.
        settings: entries of the model's config that are changed.

    Returns:
        The model. Its config keeps the names of its own classes, in its own order.

    Raises:
        ModelError: there is no such model, or some of its weights are not in the checkpoint, such as those of the head.
    """
    config, auto = _classifier(name, settings)
    try:
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
        return architecture.from_pretrained(name, config=config, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
