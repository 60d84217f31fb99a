"""The schema of the ``training`` sections: ``transformers.TrainingArguments``, which itself checks no types."""

from __future__ import annotations

import dataclasses
import enum
import typing
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model


@cache
def training_arguments_schema() -> type[BaseModel]:
    """Return a pydantic model with the fields of ``transformers.TrainingArguments``, which converts no types."""
    from transformers import TrainingArguments

    hints = typing.get_type_hints(TrainingArguments)
    fields: dict[str, Any] = {
        field.name: (_without_free_text(hints[field.name]), None)
        for field in dataclasses.fields(TrainingArguments)
        if field.init
    }
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=())
    return create_model("TrainingArguments", __config__=config, **fields)


def _without_free_text(hint: Any) -> Any:
    """Replace ``SchedulerType | str``, which takes any text, by the texts that the enumeration knows."""
    for choice in typing.get_args(hint):
        if isinstance(choice, type) and issubclass(choice, enum.Enum):
            return Literal[tuple(member.value for member in choice)]
    return hint
