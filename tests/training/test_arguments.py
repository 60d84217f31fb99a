"""The trainer's arguments: they make the objective and the policy, and wrong settings are refused."""

import dataclasses

import pytest
from transformers import TrainingArguments

from limbeck import DistillationArguments
from limbeck.temperature import policy_from


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


def test_every_setting_of_limbeck_is_described():
    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    for field in dataclasses.fields(DistillationArguments):
        if field.name not in theirs:
            assert field.metadata["help"].endswith("."), field.name
            assert f"        {field.name}: " in DistillationArguments.__doc__, field.name
