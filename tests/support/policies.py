"""A small batch for the tests of temperature policies, and its soft term under a policy."""

import torch
from torch.nn.functional import kl_div, log_softmax, softmax

from limbeck.losses import DistillationLoss
from limbeck.temperature import policy_from


def draw(*shape, seed=0):
    """Return random logits in float64, the same for the same seed."""
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER, LABELS = draw(6, 5), draw(6, 5, seed=1), torch.tensor([0, 1, 2, 3, 4, 0])


def kl(student, teacher):
    """Return KL(teacher || student) of each row, from logits that are already divided by their temperatures."""
    return kl_div(log_softmax(student, -1), softmax(teacher, -1), reduction="none").sum(-1)


def minus_mean(logits):
    """Return logits whose rows have mean zero."""
    return logits - logits.mean(-1, keepdim=True)


def soft_term(name, student=STUDENT, progress=0.0, **settings):
    """Return the soft term of the batch and its gradient, as the trainer computes them."""
    student = student.clone().requires_grad_()
    policy = policy_from({"policy": name, **settings})
    softening = policy(student, TEACHER, LABELS, progress)
    parts = DistillationLoss(alpha=1.0).parts(
        student, TEACHER, temperature=softening.temperature, scale=softening.scale
    )
    return parts.total, torch.autograd.grad(parts.total, student)[0]


def check_formula(name, formula, **settings):
    """Check that a policy gives the soft term of a formula, which takes the student's logits, and its gradient."""
    student = STUDENT.clone().requires_grad_()
    truth = formula(student)
    value, gradient = soft_term(name, **settings)
    torch.testing.assert_close(value, truth, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(truth, student)[0], rtol=1e-7, atol=1e-10)
