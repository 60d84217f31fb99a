import dataclasses

import pytest

from limbeck.config import config_from, training_arguments_schema
from limbeck.errors import ConfigError
from support.configs import faults


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
        {"per_device_train_batch_size": 0},
        {"per_device_eval_batch_size": -8},
        {"gradient_accumulation_steps": 0},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"weight_decay": float("inf")},
        {"num_train_epochs": 0},
        {"max_steps": 0},
        {"save_steps": 0},
        {"dataloader_num_workers": -1},
        {"lr_scheduler_type": "linaer"},
        {"log_level": "loud"},
        {"ddp_backend": "mail"},
        {"adam_beta1": 1.0},
        {"warmup_ratio": 1.5},
    ],
    ids=str,
)
def test_training_arguments_are_checked_for_type_and_range(section):
    with pytest.raises(ConfigError, match=f"training.{next(iter(section))}"):
        config_from({"teacher": {"model": "cnn"}, "student": {"model": "mlp"}, "training": section})


def test_every_fault_of_both_trainings_is_told_at_once(tmp_path):
    text = """\
student: {model: mlp}
teacher:
  model: cnn
  training:
    optim: lomo
    max_steps: 0
training:
  gradient_accumulation_steps: 0
  load_best_model_at_end: true
  seed: 3
  optim_args: momentum
"""
    told = faults(text, tmp_path)
    assert [fault.partition(": ")[0] for fault in told] == [
        "c.yaml:8  training.gradient_accumulation_steps",
        "c.yaml:9  training.load_best_model_at_end",
        "c.yaml:10  training.seed",
        "c.yaml:11  training.optim_args",
        "c.yaml:6  teacher.training.max_steps",
        "c.yaml:5  teacher.training.optim",
    ]
    assert told[4].endswith("should be -1 or should be greater than 0, got 0")
