"""The ``training`` sections: ``transformers.TrainingArguments``, which itself checks no types and few ranges."""

from __future__ import annotations

import dataclasses
import enum
import typing
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from limbeck.config.faults import KeyPath, Origin, validation_faults

SET_BY_THE_RUN = {
    "output_dir": "checkpoints stand in the run's folder, where --resume finds them. Name that folder by out:",
    "seed": "it is the run's own. Set it by seed: at the top of the config",
}
"""Training arguments that a run sets itself, with what to do in their place."""

RANGES: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (
        Field(ge=1),
        (
            "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
            "eval_accumulation_steps", "dataloader_prefetch_factor", "ddp_timeout",
        ),
    ),
    (Field(gt=0), ("num_train_epochs", "logging_steps", "save_steps", "eval_steps")),
    (
        Field(ge=0),
        (
            "learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps", "dataloader_num_workers",
            "eval_delay", "save_total_limit", "data_seed",
        ),
    ),
    (Field(ge=0, lt=1), ("adam_beta1", "adam_beta2")),
    (Field(ge=0, le=1), ("label_smoothing_factor", "warmup_ratio")),
)  # fmt: skip
"""The ranges that Transformers leaves to the training to find, with the arguments that have them."""


@cache
def training_arguments_schema() -> type[BaseModel]:
    """Return a pydantic model with the fields of ``transformers.TrainingArguments``, which converts no types."""
    from transformers import TrainingArguments

    hints = typing.get_type_hints(TrainingArguments) | {"max_steps": Literal[-1] | Annotated[int, Field(gt=0)]}
    ranges = {name: limits for limits, names in RANGES for name in names}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(TrainingArguments):
        if field.init:
            hint = _without_free_text(hints[field.name], field.metadata.get("choices"))
            fields[field.name] = (Annotated[hint, ranges[field.name]] if field.name in ranges else hint, None)
    config = ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False
    )
    return create_model("TrainingArguments", __config__=config, **fields)


def _without_free_text(hint: Any, choices: Any) -> Any:
    """Return a type without free text, such as ``SchedulerType | str``, where only some texts are known."""
    if choices is not None:
        return Literal[(*choices, *[None for part in typing.get_args(hint) if part is type(None)])]
    for choice in typing.get_args(hint):
        if isinstance(choice, type) and issubclass(choice, enum.Enum):
            return Literal[tuple(member.value for member in choice)]
    return hint


def training_faults(
    section: dict[str, Any], path: tuple[str, ...], values: dict[str, Any], origin: Origin
) -> list[str]:
    """Return one line for each fault of a ``training`` section.

    Args:
        section: the section.
        path: the keys that lead to it.
        values: the whole config, as it was written.
        origin: where each key was written.
    """
    from limbeck.training.argument_checks import argument_faults

    schema, faults, refused = training_arguments_schema(), [], set(SET_BY_THE_RUN)
    try:
        schema.model_validate(section)
    except ValidationError as error:
        faults = validation_faults(error, path, values, schema, origin)
        refused |= {str(detail["loc"][0]) for detail in error.errors()}
    found = {name: reason for name, reason in SET_BY_THE_RUN.items() if name in section}
    found |= argument_faults(section, refused)
    found_at: dict[KeyPath, str] = {(*path, *filter(None, [name])): message for name, message in found.items()}
    return faults + [
        origin.fault(key, message) for key, message in sorted(found_at.items(), key=lambda item: origin.line(item[0]))
    ]
