"""Every policy against its paper's formula, worked out on small tensors in float64, and through checkpoints."""

import math

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax, softmax
from support.workbench import make_trainer, weights

from limbeck.losses import DistillationLoss
from limbeck.temperature import POLICIES, policy_from


def draw(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER, LABELS = draw(6, 5), draw(6, 5, seed=1), torch.tensor([0, 1, 2, 3, 4, 0])


def soft_term(name, student=STUDENT, progress=0.0, **settings):
    """The soft term of a batch and its gradient, as the trainer computes it."""
    student = student.clone().requires_grad_()
    policy = policy_from({"policy": name, **settings})
    softening = policy(student, TEACHER, LABELS, progress)
    parts = DistillationLoss(alpha=1.0).parts(
        student, TEACHER, temperature=softening.temperature, scale=softening.scale
    )
    return parts.total, torch.autograd.grad(parts.total, student)[0]


def kl(student, teacher):
    """KL(teacher || student) of logits that are divided by their temperatures already, a row each."""
    return kl_div(log_softmax(student, -1), softmax(teacher, -1), reduction="none").sum(-1)


def check(name, formula, **settings):
    student = STUDENT.clone().requires_grad_()
    truth = formula(student)
    value, gradient = soft_term(name, **settings)
    torch.testing.assert_close(value, truth, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(truth, student)[0], rtol=1e-7, atol=1e-10)


def centred(z):
    return z - z.mean(-1, keepdim=True)


class TestFormulas:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("linear", [8.0, 6.0, 5.0, 2.0, 2.0]),
            ("cosine", [8.0, 5 + 3 * math.cos(math.pi / 3), 5.0, 2.0, 2.0]),
            ("exponential", [8.0, 8 * 4 ** (-1 / 3), 4.0, 2.0, 2.0]),
        ],
    )
    def test_annealing(self, name, expected):
        policy = policy_from({"policy": name, "start": 8, "end": 2, "over": 0.5})
        found = [policy(STUDENT, None, None, p).temperature for p in (0, 1 / 6, 0.25, 0.5, 1.0)]
        assert found == pytest.approx(expected)

    def test_logit_standardisation(self):
        """Sun et al.: z-scores of both, then T, times T²."""

        def z_score(z):
            return centred(z) / z.std(-1, keepdim=True)

        check("standardized", lambda s: 4 * kl(z_score(s) / 2, z_score(TEACHER) / 2).mean(), temperature=2.0)

    def test_both_as_sharp(self):
        """Wei and Bai: temperatures that share 2 T in proportion to the sharpness."""

        def formula(s):
            x, y = centred(TEACHER).logsumexp(-1, keepdim=True), centred(s).logsumexp(-1, keepdim=True)
            t_t, t_s = 8 * x / (x + y), 8 * y / (x + y)
            return ((t_t * t_s).squeeze(-1) * kl(s / t_s, TEACHER / t_t)).mean()

        check("sharpness", formula, temperature=4.0)
        softening = policy_from({"policy": "sharpness"})(STUDENT, TEACHER)
        torch.testing.assert_close(softening.teacher + softening.student, torch.full((6,), 8.0, dtype=torch.float64))

    def test_the_largest_logit(self):
        t_t, t_s = centred(TEACHER).amax(-1, keepdim=True) / 2, centred(STUDENT).amax(-1, keepdim=True) / 2
        check("max_logit", lambda s: ((t_t * t_s).squeeze(-1) * kl(s / t_s, TEACHER / t_t)).mean(), ratio=2.0)
        softening = policy_from({"policy": "max_logit", "ratio": 2.0})(STUDENT, 10 * TEACHER)
        torch.testing.assert_close(softening.teacher, 10 * t_t.squeeze(-1))

    def test_on_the_teacher_alone(self):
        """Zheng and Yang: the power transform of the teacher's probabilities, and its sum as the weight."""
        powers = softmax(TEACHER, -1) ** (1 / 4)
        sums = powers.sum(-1)

        def rows(s):
            return (powers / sums[:, None] * ((powers / sums[:, None]).log() - log_softmax(s, -1))).sum(-1)

        check("teacher_only", lambda s: rows(s).mean(), temperature=4.0)
        check("weighted_teacher_only", lambda s: (sums * rows(s)).mean(), temperature=4.0)

    def test_the_gap(self):
        policy = policy_from({"policy": "gap", "start": 8.0, "lowest": 1.0, "momentum": 0.9})
        one_hot = torch.nn.functional.one_hot(LABELS, 5).double()
        t = 8.0
        for progress, student in ((0.5, STUDENT), (0.25, -9 * one_hot), (1.0, STUDENT)):
            teacher = 9 * one_hot
            entropy = [-log_softmax(z, -1).gather(-1, LABELS[:, None]).mean().item() for z in (student, teacher)]
            gap = entropy[0] - entropy[1]
            target = 8 * (1 + math.cos(math.pi * progress)) / 2 * (gap / (gap - 1) if gap > 1 else 1)
            t = 0.9 * t + 0.1 * min(max(target, 1.0), 8.0)
            assert policy(student, teacher, LABELS, progress).temperature == pytest.approx(t)
        policy.eval()
        assert policy(STUDENT, TEACHER, LABELS, 0.9).temperature == pytest.approx(t)

    @pytest.mark.parametrize(("progress", "strength"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.7, 1.0)])
    def test_learned_by_a_reversed_gradient(self, progress, strength):
        policy = policy_from({"policy": "learned", "lowest": 1.0, "span": 20.0, "ramp": 0.1, "start": 4.0})
        objective = DistillationLoss(alpha=1.0)
        t = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
        by_t = torch.autograd.grad(objective.parts(STUDENT, TEACHER, temperature=t).total, t)[0]
        share = 3 / 20  # T = 1 + 20 share, and d share / d raw = share (1 - share)
        softening = policy(STUDENT, TEACHER, LABELS, progress)
        loss = objective.parts(STUDENT, TEACHER, temperature=softening.temperature).total
        assert softening.temperature.item() == pytest.approx(4.0)
        got = torch.autograd.grad(loss, policy.raw)[0]
        assert got.item() == pytest.approx(-strength * by_t.item() * 20 * share * (1 - share), rel=1e-4, abs=1e-12)

    @pytest.mark.parametrize("name", ["standardized", "sharpness", "max_logit", "weighted_teacher_only"])
    def test_a_constant_added_to_logits_changes_nothing(self, name):
        moved = policy_from({"policy": name})(STUDENT + 7, TEACHER - 3)
        still = policy_from({"policy": name})(STUDENT, TEACHER)
        for one, other in zip(
            (moved.teacher, moved.student, moved.scale), (still.teacher, still.student, still.scale), strict=True
        ):
            torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other))


def test_a_scale_counts_the_positions_that_the_loss_counts():
    """Masked and unlabelled positions, num_items, and both terms: against the same loss by hand."""
    labels, mask = LABELS.clone(), torch.tensor([True, True, True, True, False, True])
    labels[1] = -100
    objective, scale = DistillationLoss(alpha=0.7), torch.arange(1.0, 7.0, dtype=torch.float64)
    soft = scale * kl(STUDENT / 3, TEACHER / 2)
    hard = -log_softmax(STUDENT, -1).gather(-1, labels.clamp(min=0)[:, None]).squeeze(-1) * (labels >= 0)
    rows = (0.7 * soft + 0.3 * hard) * mask
    parts = objective.parts(STUDENT, TEACHER, labels, mask=mask, temperature=(2.0, 3.0), scale=scale)
    torch.testing.assert_close(parts.total, rows.sum() / 5)
    torch.testing.assert_close(parts.soft, (soft * mask).sum() / 5)
    parts = objective.parts(STUDENT, TEACHER, labels, mask=mask, temperature=(2.0, 3.0), scale=scale, num_items=11)
    torch.testing.assert_close(parts.total, rows.sum() / 11)


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

    def test_one_that_stands_still_is_the_constant(self, tmp_path):
        still = make_trainer(
            "module", tmp_path / "a", temperature={"policy": "linear", "start": 2, "end": 2}, max_steps=5
        )
        constant = make_trainer("module", tmp_path / "b", temperature=2.0, max_steps=5)
        still.train()
        constant.train()
        for key, value in weights(still).items():
            torch.testing.assert_close(value, weights(constant)[key])

    @pytest.mark.parametrize("kind", ["bert", "llama"])
    def test_texts_and_language_models(self, kind, tmp_path):
        trainer = make_trainer(kind, tmp_path, temperature={"policy": "standardized"}, max_steps=3)
        before = weights(trainer)
        assert math.isfinite(trainer.train().training_loss)
        assert any(not torch.equal(value, before[key]) for key, value in weights(trainer).items())


class TestFaults:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"policy": "warm"}, r"temperature.policy: expected one of linear, .*, got 'warm'"),
            ({}, r"temperature.policy: expected one of .*, got None"),
            ({"policy": "linear", "stop": 3}, r"temperature: linear cannot be made from .*stop"),
            ({"policy": "linear", "start": 0}, r"temperature.start: expected a positive number, got 0"),
            ({"policy": "sharpness", "temperature": math.inf}, r"temperature.temperature: expected a positive number"),
            ({"policy": "gap", "momentum": 1.0}, r"temperature.momentum: expected a number in \[0, 1\)"),
            ({"policy": "learned", "start": 50}, r"temperature.start: expected a number between 1.0 and 21.0"),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            policy_from(settings)

    def test_a_teacher_known_in_part(self):
        with pytest.raises(ValueError, match="needs all of the teacher's logits"):
            policy_from({"policy": "sharpness"})(STUDENT, None)

    def test_a_policy_beside_a_teacher_temperature(self, tmp_path):
        with pytest.raises(ValueError, match="teacher_temperature: a policy sets both"):
            make_trainer("module", tmp_path, temperature={"policy": "linear"}, teacher_temperature=2.0)
