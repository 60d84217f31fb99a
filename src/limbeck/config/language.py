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
from limbeck.tasks import TASKS

if TYPE_CHECKING:
    from limbeck.config.schema import Config

LANGUAGE_TEMPERATURE = 1.0
"""T where none is given and the classes are the tokens of a vocabulary."""


def with_task_of_models(config: Config) -> Config:
    """Return the config with the task that its models show, and with T = 1 where they are language models and T is not given.

    Args:
        config: the run. Its own task stays, unless it is "auto".

    Returns:
        The config itself where nothing follows.
    """
    if config.task == "auto" and (task := _task_of_models(config)) is not None:
        config = config.model_copy(update={"task": task})
    if (
        config.task in TASKS
        and TASKS[config.task].unit == "token"
        and "temperature" not in config.distillation.model_fields_set
    ):
        distillation = config.distillation.model_copy(update={"temperature": LANGUAGE_TEMPERATURE})
        config = config.model_copy(update={"distillation": distillation})
    return config


def _task_of_models(config: Config) -> str | None:
    """Return the task of language models that the trained teacher shows, or the store of one and the student; else None."""
    teacher, data = config.teacher, config.data
    if data.label_column is not None or data.name in ("digits", "fashion-mnist") or teacher.training is not None:
        return None
    models = [model.model for model in teacher.models if model.model]
    if models:
        tasks = {_task_of(name) for name in models}
        return tasks.pop() if len(tasks) == 1 else None
    task = None if teacher.cache is None else _task_of(config.student.model)
    if task is None:
        return None
    try:
        return task if TeacherStore(teacher.cache or "").description.tokens else None
    except LimbeckError:  # told when the run is opened
        return None


def _task_of(name: str) -> str | None:
    """Return the task of language models that the config of a model of Transformers names; else None."""
    if name in BUILT_IN or is_own(name) or is_function(name):
        return None
    try:
        saved = None if is_written_by_limbeck(Path(name)) else read_config(name)
    except LimbeckError:  # told when the model is loaded
        return None
    in_two_parts = bool(getattr(saved, "is_encoder_decoder", False))
    return next(
        (
            task.name
            for architecture in getattr(saved, "architectures", None) or ()
            for task in TASKS.values()
            if task.unit == "token" and task.recognises(architecture, has_encoder_and_decoder=in_two_parts)
        ),
        None,
    )
