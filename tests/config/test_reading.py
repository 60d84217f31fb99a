import dataclasses

import pytest

from limbeck.config import config_from, load_config, training_arguments_schema, write_config
from limbeck.errors import ConfigError

GOOD = """\
data: {name: digits, labelled: 100}
teacher:
  model: cnn
  training: {max_steps: 10}
student:
  model: mlp
distillation:
  temperature: 4
training:
  learning_rate: 1e-3
"""

BAD = """\
data:
  name: digits
  labelled: -5
teacher:
  model: cnn
  training: {max_steps: many}
student:
  settings: {}
distillation:
  temprature: 4
  temperature: -1
  alpha: high
  divergence: forward
  compensate: maybe
training:
  num_train_epochs: three
  lr_scheduler_typ: cosine
  optim: adamm
colour: red
"""


def faults(text, tmp_path, overrides=()):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return [fault.replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def test_every_fault_is_told_at_once_with_its_line(tmp_path):
    told = faults(BAD, tmp_path, ["distillation.skew=2"])
    for expected in (
        "c.yaml:3  data.labelled: should be greater than 0",
        "c.yaml:7  student.model: missing",
        "c.yaml:10  distillation.temprature: unknown key, did you mean temperature?",
        "c.yaml:11  distillation.temperature: should be greater than 0, or auto, or a policy as in {policy: linear, "
        "start: 8, end: 1}, got -1",
        "c.yaml:12  distillation.alpha: should be a valid number, got 'high'",
        "c.yaml:13  distillation.divergence: should be one of forward_kl, reverse_kl",
        "c.yaml:14  distillation.compensate: should be a valid boolean or should be 'curvature', got 'maybe'",
        "--set distillation.skew=2  distillation.skew: should be less than 1, got 2",
        "c.yaml:6  teacher.training.max_steps: should be a valid integer",
        "c.yaml:16  training.num_train_epochs: should be a valid number, got 'three'",
        "c.yaml:17  training.lr_scheduler_typ: unknown key, did you mean lr_scheduler_type?",
        "c.yaml:18  training.optim: should be ",
        "c.yaml:19  colour: unknown key; known are out, seed, data",
    ):
        assert any(fault.startswith(expected) for fault in told), (expected, told)
    assert len(told) == 13


def test_a_good_config_is_read_written_and_read_again(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    config = load_config(path, ["data.labelled=0.25", "student.settings={hidden: [8]}", "seed=3"])
    assert config.training == {"learning_rate": 1e-3}  # YAML 1.2: a number
    assert config.data.labelled == 0.25
    assert config.student.settings == {"hidden": [8]}
    write_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config


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


def test_what_is_no_yaml(tmp_path):
    assert faults("a: [1\n", tmp_path)[0].startswith("c.yaml:2  not YAML")
    assert "not YAML" in faults("data: {}\ndata: {}\n", tmp_path)[0]
    assert "expected keys and values" in faults("- 1\n", tmp_path)[0]
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary.yaml")


def test_overrides_that_are_none(tmp_path):
    (tmp_path / "c.yaml").write_text(GOOD)
    for override in ("temperature", "=3", "data=["):
        with pytest.raises(ConfigError, match="--set"):
            load_config(tmp_path / "c.yaml", [override])
