"""The trainer's arguments: they make the objective and the policy, and wrong settings are refused."""

import dataclasses
import json

import pytest
import torch
from transformers import HfArgumentParser, TrainingArguments

from limbeck import DistillationArguments
from limbeck.losses.divergences import JSD
from limbeck.temperature import POLICIES, policy_from


def test_the_objective_has_every_setting(tmp_path):
    args = DistillationArguments(
        str(tmp_path), temperature=2.0, teacher_temperature=3.0, alpha=0.9, divergence="jsd", beta=0.25,
        compensate="curvature", label_smoothing_factor=0.1,
    )  # fmt: skip
    objective = args.objective()
    assert objective.temperature == (3.0, 2.0)
    assert (objective.alpha, objective.divergence.beta) == (0.9, 0.25)
    assert (objective.compensate, objective.label_smoothing) == ("curvature", 0.1)


def test_each_call_makes_a_new_policy_from_its_settings(tmp_path):
    args = DistillationArguments(str(tmp_path), temperature={"policy": "linear", "start": 8, "end": 1})
    assert args.policy().start == 8
    assert args.policy() is not args.policy()
    assert args.objective().temperature == 8
    policy = policy_from({"policy": "linear", "start": 6, "end": 1})
    assert DistillationArguments(str(tmp_path), temperature=policy).policy().start == 6
    assert DistillationArguments(str(tmp_path), temperature=3.0).policy() is None


def test_a_wrong_setting_is_refused_at_construction(tmp_path):
    for wrong, message in (
        (dict(alpha=1.5), "alpha"),
        (dict(divergence="jsd", beta=-0.1), "beta"),
        (dict(temperature={"policy": "linear"}, teacher_temperature=2.0), "teacher_temperature: a policy sets both"),
    ):
        with pytest.raises(ValueError, match=message):
            DistillationArguments(str(tmp_path), **wrong)


def test_a_policy_object_is_copied_since_what_it_learns_belongs_to_the_run(tmp_path):
    policy = policy_from({"policy": "learned"})
    args = DistillationArguments(str(tmp_path), temperature=policy)
    args.policy().raw.data.fill_(3)
    assert policy.raw.item() == args.policy().raw.item() != 3
    assert args.loss_settings() == args.loss_settings()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (dict(divergence=JSD(0.3)), {"divergence": str(JSD(0.3))}),
        (dict(temperature={"policy": "linear", "start": 8}), {"temperature": {"policy": "linear", "start": 8}}),
        (
            dict(temperature=policy_from({"policy": "cosine", "start": 6})),
            {"temperature": {"policy": "cosine", "start": 6, "end": 1.0, "over": 1.0}},
        ),
        (dict(temperature=torch.tensor(2.0)), {"temperature": 2.0}),
        (dict(class_weights=[1.0, 2.0]), {"class_weights": [1.0, 2.0]}),
    ],
)
def test_settings_that_are_objects_can_be_written_as_json(settings, expected, tmp_path):
    args = DistillationArguments(str(tmp_path), **settings)
    written = json.loads(args.to_json_string())
    assert {name: written[name] for name in expected} == expected
    args.to_sanitized_dict()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_comes_back_from_json(policy, tmp_path):
    made = policy_from({"policy": policy})
    written = json.loads(DistillationArguments(str(tmp_path), temperature=made).to_json_string())["temperature"]
    again = policy_from(written)
    assert type(again) is type(made)
    assert again.nominal_temperature == pytest.approx(made.nominal_temperature)


@pytest.mark.parametrize(
    ("line", "setting", "value"),
    [
        ([], "temperature", 4.0),
        (["--temperature", "2.5"], "temperature", 2.5),
        (["--temperature", '{"policy": "linear", "end": 2}'], "temperature", {"policy": "linear", "end": 2}),
        (["--compensate", "false"], "compensate", False),
        (["--compensate", "curvature"], "compensate", "curvature"),
        (["--divergence", "jsd", "--beta", "0.2"], "beta", 0.2),
        (["--class_weights", "1", "2.5"], "class_weights", [1.0, 2.5]),
        (["--teacher_dtype", "bfloat16"], "teacher_dtype", "bfloat16"),
    ],
)
def test_the_parser_of_transformers_reads_them(line, setting, value, tmp_path):
    (args,) = HfArgumentParser(DistillationArguments).parse_args_into_dataclasses(
        ["--output_dir", str(tmp_path), "--alpha", "0.25", *line]
    )
    assert getattr(args, setting) == value
    assert args.alpha == 0.25


def test_a_temperature_that_is_no_number(tmp_path):
    with pytest.raises(ValueError, match=r"temperature: expected a number, or a policy like .*, got 'warm'"):
        DistillationArguments(str(tmp_path), temperature="warm")


def test_every_setting_of_limbeck_is_described():
    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    for field in dataclasses.fields(DistillationArguments):
        if field.name not in theirs:
            assert field.metadata["help"].endswith("."), field.name
            assert f"        {field.name}: " in DistillationArguments.__doc__, field.name
