import pytest

from limbeck.config import Config, config_from, load_config
from limbeck.errors import ConfigError
from support.configs import faults

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


def test_every_fault_is_told_at_once_with_its_line(tmp_path):
    told = faults(BAD, tmp_path, ["distillation.skew=2"])
    for expected in (
        "c.yaml:3  data.labelled: should be greater than 0",
        "c.yaml:7  student.model: missing",
        "c.yaml:10  distillation.temprature: unknown key, did you mean temperature?",
        "c.yaml:11  distillation.temperature: should be greater than 0, or auto, or a policy as in {policy: linear, "
        "start: 8, end: 1}, got -1",
        "c.yaml:12  distillation.alpha: should be a valid number, got 'high'",
        "c.yaml:13  distillation.divergence: expected one of forward_kl, reverse_kl",
        "c.yaml:14  distillation.compensate: should be a valid boolean or should be 'curvature', got 'maybe'",
        "--set distillation.skew=2  distillation.skew: should be less than 1, got 2",
        "c.yaml:6  teacher.training.max_steps: should be -1 or should be a valid integer",
        "c.yaml:16  training.num_train_epochs: should be a valid number, got 'three'",
        "c.yaml:17  training.lr_scheduler_typ: unknown key, did you mean lr_scheduler_type?",
        "c.yaml:18  training.optim: should be ",
        "c.yaml:19  colour: unknown key; known are out, seed, task, data",
    ):
        assert any(fault.startswith(expected) for fault in told), (expected, told)
    assert len(told) == 13


FIVE_IN_ONE_SECTION = """\
teacher: {model: cnn}
student: {model: mlp}
data:
  nmae: digits
  labelled: 1.5
  image_size: large
  std: [0.5, 0]
  max_length: -1
  augmentation: {shift: -1, flip: 3}
"""


def test_a_wrong_type_hides_no_range(tmp_path):
    assert faults(FIVE_IN_ONE_SECTION, tmp_path, training=False) == [
        "c.yaml:4  data.nmae: unknown key, did you mean name?",
        "c.yaml:5  data.labelled: should be a valid integer or should be less than 1, got 1.5",
        "c.yaml:6  data.image_size: should be a valid integer or should be a valid array, got 'large'",
        "c.yaml:7  data.std: should be a valid number or should be greater than 0, got [0.5, 0]",
        "c.yaml:8  data.max_length: should be greater than 0, got -1",
        "c.yaml:9  data.augmentation.shift: should be greater than or equal to 0, got -1",
        "c.yaml:9  data.augmentation.flip: should be a valid boolean, got 3",
    ]


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("1: x", "c.yaml:3  1: unknown key; known are out, seed, task, data"),
        ("data: {true: x}", "c.yaml:3  data.True: unknown key; known are name"),
        ("data: digits", "c.yaml:3  data: should be a section, got 'digits'"),
        (
            "data: {augmentation: {rotate: 3}}",
            "c.yaml:3  data.augmentation.rotate: unknown key; known are shift, flip, mixup, cutmix",
        ),
        (
            "data: {augmentation: {mixup: .nan}}",
            "c.yaml:3  data.augmentation.mixup: should be a finite number, got nan",
        ),
        (
            "distillation: {teacher_temperature: 2, temperature: {policy: linear, start: 8}}",
            "c.yaml:3  distillation.teacher_temperature: a policy sets both temperatures. Leave it out.",
        ),
        (
            "distillation: {temperature: {policy: linaer}}",
            "c.yaml:3  distillation.temperature.policy: expected one of linear, cosine, exponential",
        ),
        (
            "distillation: {temperature: {policy: linear, strat: 3}}",
            "c.yaml:3  distillation.temperature.strat: linear has no such setting, did you mean start?",
        ),
        ("compare: {temperatures: [1, 0]}", "c.yaml:3  compare.temperatures.1: should be greater than 0, got 0"),
    ],
)
def test_a_fault_names_its_line_and_key(section, fault, tmp_path):
    text = f"teacher: {{model: cnn}}\nstudent: {{model: mlp}}\n{section}\n"
    (found,) = faults(text, tmp_path, training=False)
    assert found.startswith(fault)


def test_every_fault_of_a_section_is_told_at_once(tmp_path):
    text = """\
teacher: {model: cnn}
student: {model: mlp}
search:
  temperatures: [1, 2, -3]
  seeds: 0
  alphas: [2]
  divergences: [jds]
cache:
  format: zip
  k: 0
  temperatures: [0]
  shard_rows: 0
"""
    assert faults(text, tmp_path, training=False) == [
        "c.yaml:4  search.temperatures.2: should be greater than 0, got -3",
        "c.yaml:5  search.seeds: should be greater than or equal to 1, got 0",
        "c.yaml:6  search.alphas.0: should be less than or equal to 1, got 2",
        "c.yaml:7  search.divergences.0: expected one of forward_kl, reverse_kl, jsd, skew_kl, skew_reverse_kl, tvd, "
        "logit_mse, got 'jds'. Did you mean jsd?",
        "c.yaml:9  cache.format: should be 'dense', 'topk', 'sampled' or 'hidden', got 'zip'",
        "c.yaml:10  cache.k: should be greater than 0, got 0",
        "c.yaml:11  cache.temperatures.0: should be greater than 0, got 0",
        "c.yaml:12  cache.shard_rows: should be greater than 0, got 0",
    ]
    (found,) = faults(
        "teacher: {model: cnn}\nstudent: {model: mlp}\ncache: {format: hidden, dtype: int8}\n", tmp_path, training=False
    )
    assert found.startswith("c.yaml:3  cache.dtype: expected 'float32', 'float16' or 'bfloat16', got 'int8'")


def test_a_teacher_that_is_neither_a_model_nor_a_store(tmp_path):
    (found,) = faults("student: {model: mlp}\nteacher:\n  settings: {}\n", tmp_path, training=False)
    assert found.startswith("c.yaml:2  teacher.model: missing. Name a model")


def test_a_mapping_has_no_lines():
    with pytest.raises(ConfigError, match=r"^here  student: missing$"):
        config_from({"teacher": {"model": "cnn"}}, name="here")


def test_a_config_remembers_where_its_keys_were_written(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("teacher: {model: cnn}\nstudent:\n  model: mlp\n")
    config = load_config(path, ["teacher.training={max_steps: 1}"])
    config = config.model_copy(update={"out": "elsewhere"})
    assert config.fault("student.model", "wrong") == f"{path}:3  student.model: wrong"
    assert config.fault("student.settings.hidden", "wrong") == f"{path}:2  student.settings.hidden: wrong"
    assert config.fault("teacher.training.max_steps", "wrong") == (
        "--set teacher.training={max_steps: 1}  teacher.training.max_steps: wrong"
    )
    assert config.fault("data", "wrong") == f"{path}  data: wrong"
    in_python = Config(teacher=config.teacher, student=config.student, out="elsewhere")
    assert in_python.fault("data", "wrong") == "data: wrong"
    assert in_python == config


def test_names_and_settings_of_models_are_told_at_once(tmp_path):
    text = """\
student:
  model: mlp
  settings:
    hiden: [8]
    classes: 3
teacher: {model: resnte, training: {max_steps: 0}}
"""
    assert [fault.partition(": ")[0] for fault in faults(text, tmp_path)] == [
        "c.yaml:4  student.settings.hiden",
        "c.yaml:6  teacher.model",
        "c.yaml:6  teacher.training.max_steps",
    ]
