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
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as IMAGE_MODELS

    head: dict[str, Any] = {"num_labels": classes}
    if labels is not None:
        head |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **head, **settings)
        is_image = config.model_type in IMAGE_MODELS
        auto: Any = AutoModelForImageClassification if is_image else AutoModelForSequenceClassification
        if from_scratch:
            return auto.from_config(config)
        return auto.from_pretrained(name, config=config, ignore_mismatched_sizes=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {name!r}: {_first_line(error)} Expected one of {', '.join(BUILT_IN)}, a run's student/ folder, "
            "package.module:function, or a Hugging Face id or folder with safetensors weights."
        ) from None


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
