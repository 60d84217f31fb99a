"""The learned temperature, compared with the gradient of the loss with respect to T."""

import pytest
import torch

from limbeck.losses import DistillationLoss
from limbeck.temperature import policy_from
from support.policies import LABELS, STUDENT, TEACHER


@pytest.mark.parametrize(("progress", "strength"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.7, 1.0)])
def test_the_temperature_is_learned_by_a_reversed_gradient(progress, strength):
    policy = policy_from({"policy": "learned", "lowest": 1.0, "span": 20.0, "ramp": 0.1, "start": 4.0})
    objective = DistillationLoss(alpha=1.0)
    t = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    by_t = torch.autograd.grad(objective.parts(STUDENT, TEACHER, temperature=t).total, t)[0]
    position = 3 / 20  # T = 1 + 20 position, and d position / d raw = position (1 - position)
    softening = policy(STUDENT, TEACHER, LABELS, progress)
    loss = objective.parts(STUDENT, TEACHER, temperature=softening.temperature).total
    assert softening.temperature.item() == pytest.approx(4.0)
    got = torch.autograd.grad(loss, policy.raw)[0]
    assert got.item() == pytest.approx(-strength * by_t.item() * 20 * position * (1 - position), rel=1e-4, abs=1e-12)
