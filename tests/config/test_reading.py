import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from limbeck.config import Config, config_from, load_config, write_config
from limbeck.errors import ConfigError
from support.configs import faults

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


@pytest.mark.parametrize("key", ["training.output_dir=elsewhere", "training.seed=3", "teacher.training.seed=3"])
def test_what_the_run_sets_is_not_a_training_argument(key, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("teacher: {model: cnn, training: {max_steps: 1}}\nstudent: {model: mlp}\ntraining: {}\n")
    with pytest.raises(ConfigError, match=key.partition("=")[0].replace(".", r"\.") + ": "):
        load_config(path, [key])


def test_values_that_yaml_cannot_write_are_refused():
    import numpy as np

    for value in (np.int64(5), {1, 2}, object()):
        with pytest.raises(ConfigError, match="not a value that a config can hold"):
            config_from({"teacher": {"model": "cnn"}, "student": {"model": "mlp", "settings": {"hidden": value}}})


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "distillation.divergence={name: jsd, beta: 3}",
            "distillation.divergence.beta: expected a number in [0, 1], got 3.",
        ),
        (
            "distillation.divergence={name: jsd, bta: 1}",
            "distillation.divergence: 'jsd' has no parameter 'bta', did you mean beta?",
        ),
        (
            "distillation.temperature={policy: linear, start: -1}",
            "distillation.temperature.start: expected a positive number",
        ),
    ],
)
def test_a_fault_inside_of_a_mapping_names_its_key_and_the_value_once(override, expected, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("teacher: {model: cnn, training: {max_steps: 1}}\nstudent: {model: mlp}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    (fault,) = caught.value.faults
    assert expected in fault
    assert fault.count("got") == (1 if "got" in fault else 0)


def test_a_good_config_is_read_written_and_read_again(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    config = load_config(path, ["data.labelled=0.25", "student.settings={hidden: [8]}", "seed=3"])
    assert config.training == {"learning_rate": 1e-3}  # YAML 1.2: a number
    assert config.data.labelled == 0.25
    assert config.student.settings == {"hidden": [8]}
    write_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config


def test_what_is_no_yaml(tmp_path):
    assert faults("a: [1\n", tmp_path)[0].startswith("c.yaml:2  not YAML")
    assert "not YAML" in faults("data: {}\ndata: {}\n", tmp_path)[0]
    assert "expected keys and values" in faults("- 1\n", tmp_path)[0]
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary.yaml")


MERGED = """\
teacher:
  model: cnn
  training: &base
    max_steps: -3
    learning_rate: -1
student: {model: mlp}
training:
  <<: *base
  learning_rate: -2
"""


def test_merge_keys_and_their_lines(tmp_path):
    assert [fault.partition(": ")[0] for fault in faults(MERGED, tmp_path)] == [
        "c.yaml:4  training.max_steps",
        "c.yaml:9  training.learning_rate",
        "c.yaml:4  teacher.training.max_steps",
        "c.yaml:5  teacher.training.learning_rate",
    ]
    config = load_config(tmp_path / "c.yaml", training=False)
    assert config.training == {"max_steps": -3, "learning_rate": -2}
    (tmp_path / "c.yaml").write_text("teacher: &a {model: cnn}\nstudent:\n  <<: [*a, {from_scratch: true}]\n")
    student = load_config(tmp_path / "c.yaml", training=False).student
    assert (student.model, student.from_scratch) == ("cnn", True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "data:\n\tname: digits\n",
            "c.yaml:4  not YAML: while scanning for the next token, found character '\\t' that",
        ),
        ("---\ndata: {}\n", "c.yaml:3  not YAML: expected a single document in the stream, but found another document"),
        ("data: &a\n  name: *a\n", "c.yaml: an alias stands inside of what it names"),
        ("data:\n  name: x\n  name: y\n", "c.yaml:5  not YAML: while constructing a mapping, found duplicate key"),
        ("data: {name: *x}\n", "c.yaml:3  not YAML: found undefined alias 'x'"),
        ("data: {name: on, folder: true}\n", "c.yaml:3  data.folder: should be a valid string, got True"),
        ("out: !!python/name:os.system\n", "c.yaml:3  not YAML: could not determine a constructor"),
    ],
)
def test_unusual_yaml_is_told_in_one_line(text, fault, tmp_path):
    (found,) = faults(f"teacher: {{model: cnn}}\nstudent: {{model: mlp}}\n{text}", tmp_path, training=False)
    assert found.startswith(fault)
    assert "\n" not in found


def test_an_empty_file_and_a_byte_order_mark(tmp_path):
    assert faults("# nothing\n", tmp_path) == ["c.yaml: expected keys and values, got nothing."]
    (tmp_path / "c.yaml").write_text("\ufeff" + GOOD, encoding="utf-8")
    assert load_config(tmp_path / "c.yaml", training=False).student.model == "mlp"


def test_a_fault_of_a_section_that_an_override_made_names_the_override(tmp_path):
    assert faults(GOOD, tmp_path, ["seed.x=1"], training=False) == [
        "--set seed.x=1  seed: should be a valid integer, got {'x': 1}"
    ]


def test_overrides_that_are_none(tmp_path):
    (tmp_path / "c.yaml").write_text(GOOD)
    for override in ("temperature", "=3", "data=["):
        with pytest.raises(ConfigError, match="--set"):
            load_config(tmp_path / "c.yaml", [override])


def test_overrides_make_the_sections_that_they_need(tmp_path):
    (tmp_path / "c.yaml").write_text(GOOD)
    config = load_config(tmp_path / "c.yaml", ["data.augmentation.shift=2", "student={model: cnn}"], training=False)
    assert (config.data.name, config.data.augmentation.shift, config.student.model) == ("digits", 2, "cnn")


def test_a_mapping_is_left_as_it_is():
    values = {"teacher": {"model": "cnn"}, "student": {"model": "mlp", "settings": {"hidden": (8, 4)}}}
    config = config_from(values, ["student.settings.hidden=[2]", "seed=7"])
    assert (config.seed, config.student.settings) == (7, {"hidden": [2]})
    assert values == {"teacher": {"model": "cnn"}, "student": {"model": "mlp", "settings": {"hidden": (8, 4)}}}


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
positive = st.integers(1, 10**9)
positive_float = st.floats(0, allow_infinity=False, exclude_min=True)
fraction = st.floats(0, 1)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
free = st.dictionaries(
    text, st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner)), max_size=3
)


def sections(**keys):
    """Any of these keys, with any of their values."""
    return st.fixed_dictionaries({}, optional=keys)


def lists(values, **sizes):
    return st.lists(values, max_size=4, **sizes)


not_negative = st.floats(0, allow_infinity=False)
augmentations = sections(shift=st.integers(0, 99), flip=st.booleans(), mixup=not_negative, cutmix=not_negative)
configs = st.fixed_dictionaries(
    {
        "teacher": st.fixed_dictionaries(
            {"model": st.just("owner/model")},
            optional={"settings": free, "from_scratch": st.booleans(), "cache": text, "augmentation": augmentations},
        ),
        "student": st.fixed_dictionaries({"model": st.just("owner/model")}, optional={"settings": free}),
    },
    optional={
        "out": text,
        "seed": st.integers(0, 2**40),
        "data": sections(
            name=text, folder=st.none() | text, labelled=positive | st.floats(0, 1, exclude_min=True, exclude_max=True),
            transfer=st.sampled_from(["all", "labelled"]), channels=st.sampled_from([1, 3]), image_size=positive,
            mean=st.floats(allow_nan=False, allow_infinity=False) | st.lists(fraction, min_size=1, max_size=1),
            std=positive_float | st.lists(positive_float, min_size=1, max_size=1),
            augmentation=augmentations,
        ),
        "distillation": sections(
            temperature=positive_float | st.just("auto"),
            teacher_temperature=st.none() | positive_float, alpha=fraction, beta=fraction,
            skew=st.floats(0, 1, exclude_max=True), compensate=st.booleans() | st.just("curvature"),
            divergence=st.sampled_from(["forward_kl", "jsd"]),
        ),
        "compare": sections(seeds=positive, temperatures=lists(positive_float, min_size=1)),
        "training": sections(learning_rate=positive_float, max_steps=positive, logging_first_step=st.booleans()),
    },
)  # fmt: skip


@settings(
    max_examples=30,  # each reads the config twice
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[
        Phase.explicit,
        Phase.generate,
        Phase.shrink,
    ],  # to explain a failure, every line of Transformers would be traced
)
@given(configs)
@example({
    "teacher": {"model": "a/b"}, "student": {"model": "a/b"}, "distillation": {"temperature": {"policy": "linear", "end": 1.5}},
})  # fmt: skip
@example({"teacher": {"cache": "a\x85é"}, "student": {"model": "on"}, "out": "1e-3"})
def test_any_config_is_written_and_read_again(tmp_path, values):
    config = config_from(values)
    write_config(config, tmp_path / "written.yaml")
    again = load_config(tmp_path / "written.yaml")
    assert again == config
    assert isinstance(again, Config)
    write_config(again, tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == (tmp_path / "written.yaml").read_bytes()
