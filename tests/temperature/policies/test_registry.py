"""Every policy by its name: in the trainer, through checkpoints, and with wrong settings."""

import math

import pytest
import torch

from limbeck.errors import ArgumentError
from limbeck.teachers import TeacherOutput
from limbeck.temperature import POLICIES, policy_from
from support.policies import STUDENT
from support.workbench import make_trainer, weights


class TestTrainer:
    @pytest.mark.parametrize("name", sorted(POLICIES))
    def test_every_policy_trains_and_resumes_to_the_same_student(self, name, tmp_path):
        settings = dict(temperature={"policy": name}, optim="adamw_torch", learning_rate=0.01, max_steps=8)
        whole = make_trainer("module", tmp_path / "whole", save_strategy="steps", save_steps=3, **settings)
        whole.train()
        again = make_trainer("module", tmp_path / "again", **settings)
        again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
        for key, value in weights(whole).items():
            assert torch.equal(value, weights(again)[key]), key
        state = whole.policy.state_dict()
        assert {key: value.item() for key, value in state.items()} == {
            k: v.item() for k, v in again.policy.state_dict().items()
        }
        kept = (tmp_path / "whole" / "checkpoint-6" / "temperature.safetensors").is_file()
        assert kept == (name in ("gap", "learned"))
        if kept:
            begun = policy_from({"policy": name}).state_dict()
            assert all(state[key] != begun[key] for key in state)
        whole.save_model(str(tmp_path / "student"))
        assert not list((tmp_path / "student").glob("temperature*"))

    def test_a_schedule_that_stands_still_equals_a_constant(self, tmp_path):
        still = make_trainer(
            "module", tmp_path / "a", temperature={"policy": "linear", "start": 2, "end": 2}, max_steps=5
        )
        constant = make_trainer("module", tmp_path / "b", temperature=2.0, max_steps=5)
        still.train()
        constant.train()
        for key, value in weights(still).items():
            torch.testing.assert_close(value, weights(constant)[key])

    @pytest.mark.parametrize("name", sorted(POLICIES))
    def test_tokens_that_do_not_count_may_hold_anything(self, name, tmp_path):
        """The trainer hands the policy the positions that count in the loss."""
        clean = make_trainer("llama", tmp_path / "a", temperature={"policy": name}, max_steps=3)
        noisy = make_trainer("llama", tmp_path / "b", temperature={"policy": name}, max_steps=3)
        teacher = noisy.teacher

        def with_junk(batch):
            logits = teacher(batch).logits.clone()
            logits[:, :-1][batch["labels"][:, 1:] == -100] = math.nan
            return TeacherOutput(logits)

        noisy.teacher = with_junk
        clean.train()
        noisy.train()
        for key, value in weights(noisy).items():
            torch.testing.assert_close(value, weights(clean)[key])

    @pytest.mark.parametrize("kind", ["bert", "llama"])
    def test_texts_and_language_models(self, kind, tmp_path):
        trainer = make_trainer(kind, tmp_path, temperature={"policy": "standardized"}, max_steps=3)
        before = weights(trainer)
        assert math.isfinite(trainer.train().training_loss)
        assert any(not torch.equal(value, before[key]) for key, value in weights(trainer).items())


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"policy": "warm"}, r"temperature.policy: expected one of linear, .*, got 'warm'"),
            ({}, r"temperature.policy: expected one of .*, got None"),
            (
                {"policy": "linear", "stop": 3},
                r"temperature\.stop: linear has no such setting; known are start, end, over",
            ),
            ({"policy": "linear", "start": 0}, r"temperature.start: expected a positive number, got 0"),
            (
                {"policy": "max_logit", "weight": "equal"},
                r"temperature.weight: expected one of by_temperature, constant",
            ),
            ({"policy": "sharpness", "temperature": math.inf}, r"temperature.temperature: expected a positive number"),
            ({"policy": "gap", "momentum": 1.0}, r"temperature.momentum: expected a number in \[0, 1\)"),
            ({"policy": "learned", "start": 50}, r"temperature.start: expected a number between 1.0 and 21.0"),
        ],
    )
    def test_wrong_settings_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            policy_from(settings)

    def test_a_teacher_without_all_logits_is_refused(self):
        with pytest.raises(ValueError, match="needs all of the teacher's logits"):
            policy_from({"policy": "sharpness"})(STUDENT, None)

    def test_a_policy_beside_a_teacher_temperature_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="teacher_temperature: a policy sets both"):
            make_trainer("module", tmp_path, temperature={"policy": "linear"}, teacher_temperature=2.0)

    def test_errors_carry_the_name_of_the_setting(self):
        """The name is an attribute of the error, because a config puts its own key before it."""
        for argument, name in (("temperature", "temperature.start"), ("", "start"), ("a.b", "a.b.start")):
            with pytest.raises(ArgumentError) as caught:
                policy_from({"policy": "linear", "start": 0}, argument=argument)
            assert (caught.value.argument, caught.value.message) == (name, "expected a positive number, got 0.")
        for unknown in ("warm", ["linear"], None):
            with pytest.raises(ArgumentError) as caught:
                policy_from({"policy": unknown}, argument="")
            assert caught.value.argument == "policy"
        with pytest.raises(ArgumentError) as caught:
            policy_from({"policy": "gap", "momentum": "high"}, argument="")
        assert caught.value.argument == ""
        assert caught.value.message.startswith("gap cannot be made from {'momentum': 'high'} (")


def test_a_policy_is_returned_itself():
    policy = policy_from({"policy": "linear"})
    assert policy_from(policy) is policy
