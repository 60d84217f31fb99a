"""Policies that depend on the logits, each compared with its paper's formula on a small batch in float64."""

import pytest
import torch
from torch.nn.functional import log_softmax, softmax

from limbeck.losses import DistillationLoss
from limbeck.temperature import policy_from
from support.policies import LABELS, STUDENT, TEACHER, check_formula, kl, minus_mean


def test_logit_standardisation():
    """Sun et al.: the z-scores of both logits are divided by T, and the loss is multiplied by T²."""

    def z_score(z):
        return minus_mean(z) / z.std(-1, keepdim=True)

    check_formula("standardized", lambda s: 4 * kl(z_score(s) / 2, z_score(TEACHER) / 2).mean(), temperature=2.0)


def test_both_models_become_equally_sharp():
    """Wei and Bai: the two temperatures sum to 2 T, and are in proportion to the sharpness."""

    def formula(s):
        x, y = minus_mean(TEACHER).logsumexp(-1, keepdim=True), minus_mean(s).logsumexp(-1, keepdim=True)
        t_t, t_s = 8 * x / (x + y), 8 * y / (x + y)
        return ((t_t * t_s).squeeze(-1) * kl(s / t_s, TEACHER / t_t)).mean()

    check_formula("sharpness", formula, temperature=4.0)
    softening = policy_from({"policy": "sharpness"})(STUDENT, TEACHER)
    torch.testing.assert_close(
        softening.teacher_temperature + softening.student_temperature, torch.full((6,), 8.0, dtype=torch.float64)
    )


def test_temperatures_follow_the_largest_logit():
    t_t, t_s = minus_mean(TEACHER).amax(-1, keepdim=True) / 2, minus_mean(STUDENT).amax(-1, keepdim=True) / 2
    check_formula("max_logit", lambda s: ((t_t * t_s).squeeze(-1) * kl(s / t_s, TEACHER / t_t)).mean(), ratio=2.0)
    softening = policy_from({"policy": "max_logit", "ratio": 2.0})(STUDENT, 10 * TEACHER)
    torch.testing.assert_close(softening.teacher_temperature, 10 * t_t.squeeze(-1))


def test_a_constant_weight():
    """The temperatures stay those of each example; the factor is the batch's mean of T_t T_s and has no gradient."""
    x, y = (minus_mean(z).logsumexp(-1, keepdim=True) for z in (TEACHER, STUDENT))
    factor = (64 * x * y / (x + y) ** 2).mean()

    def formula(s):
        y = minus_mean(s).logsumexp(-1, keepdim=True)
        return factor * kl(s * (x + y) / (8 * y), TEACHER * (x + y) / (8 * x)).mean()

    check_formula("sharpness", formula, temperature=4.0, weight="constant")
    t_t, t_s = (minus_mean(z).amax(-1, keepdim=True) / 2 for z in (TEACHER, STUDENT))
    check_formula(
        "max_logit", lambda s: (t_t * t_s).mean() * kl(s / t_s, TEACHER / t_t).mean(), ratio=2.0, weight="constant"
    )


def test_a_constant_weight_is_the_mean_over_the_positions_that_count():
    mask = torch.arange(len(LABELS)) < 4
    policy = policy_from({"policy": "max_logit", "weight": "constant"})
    logits = [torch.where(mask[:, None], z, torch.nan) for z in (STUDENT, TEACHER)]
    torch.testing.assert_close(policy(*logits, mask=mask).scale, policy(STUDENT[:4], TEACHER[:4]).scale)
    assert policy(*logits, mask=torch.zeros_like(mask)).scale == 0


def test_the_temperature_is_applied_to_the_teacher_alone():
    """Zheng and Yang: the teacher's probabilities are raised to the power 1 / T, and the weight is their sum."""
    powers = softmax(TEACHER, -1) ** (1 / 4)
    sums = powers.sum(-1)

    def rows(s):
        return (powers / sums[:, None] * ((powers / sums[:, None]).log() - log_softmax(s, -1))).sum(-1)

    check_formula("teacher_only", lambda s: rows(s).mean(), temperature=4.0)
    check_formula("weighted_teacher_only", lambda s: (sums * rows(s)).mean(), temperature=4.0)


@pytest.mark.parametrize("name", ["standardized", "sharpness", "max_logit", "weighted_teacher_only"])
def test_a_constant_added_to_logits_changes_nothing(name):
    moved = policy_from({"policy": name})(STUDENT + 7, TEACHER - 3)
    still = policy_from({"policy": name})(STUDENT, TEACHER)
    for one, other in zip(
        (moved.teacher_temperature, moved.student_temperature, moved.scale),
        (still.teacher_temperature, still.student_temperature, still.scale),
        strict=True,
    ):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other))


def test_a_scale_counts_the_positions_that_the_loss_counts():
    """Compare both terms with the loss by hand, with masked and unlabelled positions and with ``num_items``."""
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
