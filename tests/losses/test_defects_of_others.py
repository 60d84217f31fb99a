"""What other tools were found to do wrong, once each: here it is right, on every backend.

More of the kind stands where it belongs: JSD's gradient (``test_gradients``), smoothing and labels over shards of the
vocabulary (``kernels/test_sharded``), padding with logit 0 (``test_peers``), tails by subtraction (``kernels/test_sparse``).
"""

import math

import pytest
import torch
import torch.nn.functional as F

from cases import CASES
from limbeck import distillation_loss, distillation_loss_parts

LABELS = torch.tensor([0, 3, -100, 5])


def draw(*shape, seed=0, scale=3.0, dtype=torch.float64):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def gradient(student, teacher, labels=None, **options):
    leaf = student.clone().requires_grad_()
    distillation_loss(leaf, teacher, labels, **options).backward()
    return leaf.grad


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shared_minus_infinity_is_not_nan(case):
    """0 * (-inf + inf): F.kl_div, Liger, speculators, DistillKit, ModelOpt."""
    student, teacher = draw(4, 9), draw(4, 9, seed=1)
    student[:, 7:] = teacher[:, 7:] = -math.inf
    options = dict(divergence=case.name, **case.options)
    assert distillation_loss(student, teacher, LABELS, **options).isfinite()
    assert gradient(student, teacher, LABELS, **options).isfinite().all()


def test_the_value_is_a_divergence_and_not_a_cross_entropy():
    """torchtune returns H(p_t, p_s), which is not 0 for equal models."""
    logits = draw(4, 9)
    assert distillation_loss(logits, logits, alpha=1, temperature=2.0).abs() < 1e-12


def test_both_sides_have_the_temperature():
    """Fast-LLM divides the teacher's logits alone."""
    logits = draw(4, 9)
    assert distillation_loss(logits, logits, alpha=1, temperature=3.0).abs() < 1e-12
    assert distillation_loss(logits, logits, alpha=1, temperature=(3.0, 1.0)) > 0.1  # said, it can be had


def test_the_soft_gradient_keeps_its_size_when_t_grows():
    """T² is missing in Liger, VeOmni, NeMo-RL, axolotl: at T = 8 their soft term is a sixty-fourth."""
    student, teacher = draw(4, 9), draw(4, 9, seed=1)
    norms = [gradient(student, teacher, alpha=1, temperature=t).norm() for t in (8.0, 16.0)]
    assert 0.8 < norms[1] / norms[0] < 1.25


def test_both_terms_have_one_denominator():
    """In several trainers the hard term divides by its labels and the soft one by all positions."""
    student, teacher = draw(4, 9), draw(4, 9, seed=1)
    parts = distillation_loss_parts(student, teacher, LABELS, temperature=1.0)
    counted = LABELS != -100
    kl = F.kl_div(student.log_softmax(-1)[counted], teacher.softmax(-1)[counted], reduction="batchmean")
    torch.testing.assert_close(parts.soft, kl)
    torch.testing.assert_close(parts.hard, F.cross_entropy(student[counted], LABELS[counted]))


def test_no_counted_position_is_zero_with_a_graph():
    """torch's mean cross-entropy is NaN; Automodel and torchtune return a constant, and backward raises."""
    student = draw(4, 9).requires_grad_()
    loss = distillation_loss(student, draw(4, 9, seed=1), torch.full((4,), -100))
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()


def test_the_arguments_are_left_as_they_are():
    """Megatron's loss takes the maximum from the caller's own logits."""
    student, teacher = draw(4, 9, dtype=torch.float32), draw(4, 9, seed=1, dtype=torch.float32)
    before = student.clone(), teacher.clone()
    leaf = student.requires_grad_()
    distillation_loss(leaf, teacher, LABELS).backward()
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


def test_a_vocabulary_of_any_size():
    """SpecForge and Megatron's saver stop at 131,072 classes."""
    student, teacher = draw(2, 140_001, dtype=torch.float32), draw(2, 140_001, seed=1, dtype=torch.float32)
    labels = torch.tensor([140_000, 0])
    loss = distillation_loss(student, teacher, labels, temperature=2.0)
    truth = distillation_loss(student.double(), teacher.double(), labels, temperature=2.0)
    torch.testing.assert_close(loss.double(), truth, rtol=2e-6, atol=0)


def test_bfloat16_logits_are_not_rounded_again():
    """torchtune, Liger and DistillKit take softmax or log-probabilities in bfloat16: gradients are off by 15 % and more."""
    teacher = draw(8, 5000, scale=2.5)
    student = (teacher + 0.1 * draw(8, 5000, seed=1, scale=1.0)).bfloat16()
    teacher = teacher.bfloat16()
    ours = gradient(student, teacher, alpha=1, temperature=1.0).double()
    truth = gradient(student.double(), teacher.double(), alpha=1, temperature=1.0)
    a, b = student.log_softmax(-1), teacher.log_softmax(-1)  # in bfloat16, as they do
    theirs = (a.exp() - b.exp()).double() / 8
    assert (ours - truth).norm() / truth.norm() < 0.004
    assert (theirs - truth).norm() / truth.norm() > 0.03


def test_one_hot_rows_stay_finite():
    """A peaked row underflows; its log must not."""
    student = torch.tensor([[200.0, 0.0, -200.0]], dtype=torch.float32)
    teacher = torch.tensor([[-200.0, 0.0, 200.0]], dtype=torch.float32)
    for case in CASES:
        loss = distillation_loss(student, teacher, alpha=1, temperature=1.0, divergence=case.name, **case.options)
        assert loss.isfinite()
        assert (
            gradient(student, teacher, alpha=1, temperature=1.0, divergence=case.name, **case.options).isfinite().all()
        )
