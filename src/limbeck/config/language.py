"""What follows for a config where its models are language models: the task, and the temperature where none is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.errors import LimbeckError
from limbeck.models import BUILT_IN
from limbeck.models.hugging_face import read_config
from limbeck.models.loading import is_function, is_written_by_limbeck
from limbeck.own_code import is_own
from limbeck.store import TeacherStore
from limbeck.tasks import CausalLM

if TYPE_CHECKING:
    from limbeck.config.schema import Config

LANGUAGE_TEMPERATURE = 1.0
"""T where none is given and the task is ``causal_lm``."""


def with_task_of_models(config: Config) -> Config:
    """Return the config with the task that its models show, and with T = 1 where they are language models and T is not given.

    Args:
        config: the run. Its own task stays, unless it is "auto".

    Returns:
        The config itself where nothing follows.
    """
    if config.task == "auto" and _has_language_models(config):
        config = config.model_copy(update={"task": CausalLM.name})
    if config.task == CausalLM.name and "temperature" not in config.distillation.model_fields_set:
        distillation = config.distillation.model_copy(update={"temperature": LANGUAGE_TEMPERATURE})
        config = config.model_copy(update={"distillation": distillation})
    return config


def _has_language_models(config: Config) -> bool:
    """Return True if the trained teacher, or the store of one and the student, are causal language models."""
    teacher, data = config.teacher, config.data
    if data.label_column is not None or data.name in ("digits", "fashion-mnist") or teacher.training is not None:
        return False
    models = [model.model for model in teacher.models if model.model]
    if models:
        return all(map(_is_language_model, models))
    if teacher.cache is None or not _is_language_model(config.student.model):
        return False
    try:
        return TeacherStore(teacher.cache).description.tokens
    except LimbeckError:  # told when the run is opened
        return False


def _is_language_model(name: str) -> bool:
    """Return True if the config of a model of Transformers names a causal language model."""
    if name in BUILT_IN or is_own(name) or is_function(name):
        return False
    try:
        saved = None if is_written_by_limbeck(Path(name)) else read_config(name)
    except LimbeckError:  # told when the model is loaded
        return False
    in_two_parts = bool(getattr(saved, "is_encoder_decoder", False))
    return any(
        CausalLM.recognises(n, has_encoder_and_decoder=in_two_parts)
        for n in getattr(saved, "architectures", None) or ()
    )
