"""What kind of model a student is, seen by what it is made of: its base model, its classes and its config."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal

from torch import nn

from limbeck.errors import ArgumentError
from limbeck.models.forward import underlying

Kind = Literal["classification", "causal_lm", "encoder_decoder", "holds_causal_lm", "unknown"]
"""``holds_causal_lm`` is an own module around a causal language model, ``unknown`` any other model of an own kind."""

_CLASSIFIERS = re.compile(
    r"For(Sequence|Image|Token|Audio|Video)Classification\w*$|For(MultipleChoice|NextSentencePrediction|MaskedLM)$"
)
_CAUSAL_LMS = re.compile(r"ForCausalLM$|LMHeadModel$")
_GENERATORS = re.compile(r"For(ConditionalGeneration|CausalLM|SpeechSeq2Seq)$|ForVisionText2Text$|EncoderDecoderModel$")
_HEADS = re.compile(r"For[A-Z]\w+$|LMHead$")
_UNSHIFTED = re.compile(r"^(XLM|XLNet|Flaubert)(With)?LMHeadModel$")
"""Classes that Transformers lists as causal, and that it trains on labels of the same position."""
REMEDY = "Name the task yourself: task='classification' (a label for each row of logits), task='causal_lm', or a Task."


def recognise(model: nn.Module) -> Kind:
    """Return the kind of a model, through adapters, wrappers and subclasses.

    Args:
        model: the student.

    Returns:
        The kind. "unknown" and "holds_causal_lm" are only for modules that are not from Transformers.

    Raises:
        ArgumentError: the model is from Transformers and of a kind for which there is no task.
    """
    from transformers import PreTrainedModel

    model = underlying(model)
    if not isinstance(model, PreTrainedModel):
        inner = (part for part in model.modules() if isinstance(part, PreTrainedModel))
        held = [_kind_of_class(type(part), part.config) for part in inner]
        return "holds_causal_lm" if "causal_lm" in held else "unknown"
    kind = _kind_of_class(type(model), model.config)
    if kind is None:
        raise ArgumentError("task", f"{type(model).__name__} is of no kind that a task is known for. {REMEDY}")
    problem = getattr(model.config, "problem_type", None)
    if kind == "classification" and problem in ("regression", "multi_label_classification"):
        raise ArgumentError(
            "task",
            f"{type(model).__name__} is configured for {problem}, and these losses compare the classes of a softmax, of which "
            "one is right. If the student does that, set config.problem_type to None; if not, pass a task= of your own.",
        )
    return kind


def _kind_of_class(cls: type[nn.Module], config: Any) -> Kind | None:
    """Return the kind of a class of Transformers or of one that extends it; None if no task is known for it."""
    from transformers import PreTrainedModel

    in_two_parts = any(getattr(c, "is_encoder_decoder", False) for c in (config, getattr(config, "text_config", None)))
    for base in (base for base in cls.__mro__ if issubclass(base, PreTrainedModel)):
        name, is_theirs = base.__name__, base.__module__.startswith("transformers.")
        if _CLASSIFIERS.search(name):
            return "classification"
        if in_two_parts and _GENERATORS.search(name):
            return "encoder_decoder"
        if _UNSHIFTED.search(name):
            return None
        if name in _language_models() or _CAUSAL_LMS.search(name):
            return "causal_lm"
        if is_theirs and (base is cls or _HEADS.search(name)):
            return None
    # Remote code says in its config what it is.
    return "causal_lm" if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}) else "unknown"


@cache
def _language_models() -> frozenset[str]:
    """Return the names of the causal language models of Transformers, with those that see or hear as well."""
    from transformers.models.auto import modeling_auto as auto

    names: set[str] = set()
    for name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        names |= {name} if isinstance(name, str) else set(name)
    for table in ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES"):
        for name in getattr(auto, table, {}).values():
            names |= {part for part in ([name] if isinstance(name, str) else name) if _GENERATORS.search(part)}
    return frozenset(names)
