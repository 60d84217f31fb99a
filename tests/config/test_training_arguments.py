import dataclasses

import pytest

from limbeck.config import config_from, training_arguments_schema
from limbeck.errors import ConfigError


def test_every_training_argument_is_known():
    from transformers import TrainingArguments

    known = set(training_arguments_schema().model_fields)
    assert known == {field.name for field in dataclasses.fields(TrainingArguments) if field.init}


@pytest.mark.parametrize(
    "section",
    [
        {"learning_rate": "1e-4"},
        {"bf16": "yes"},
        {"max_steps": 1.5},
        {"report_to": 3},
        {"eval_strategy": "sometimes"},
        {"save_total_limit": "two"},
    ],
    ids=str,
)
def test_training_arguments_are_checked_for_type(section):
    with pytest.raises(ConfigError, match=f"training.{next(iter(section))}"):
        config_from({"teacher": {"model": "cnn"}, "student": {"model": "mlp"}, "training": section})
