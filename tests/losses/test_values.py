"""Values against scipy, torch and a loss written by hand, over every divergence and option."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from cases import CASES, ON_PROBABILITIES
from limbeck import distillation_loss, distillation_loss_parts, logit_mse_loss
from limbeck.losses import DIVERGENCES

SCALES = (1e-3, 1.0, 30.0, 300.0)


def draw(shape, scale=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=dtype)


def expected(case, student, teacher, t_t, t_s):
    """Row values from the table, C(T) included."""
    rows = []
    for z_s, z_t in zip(student.numpy(), teacher.numpy(), strict=True):
        rows.append(case.value(z_t, z_s) if case.on_logits else case.value(softmax(z_t / t_t), softmax(z_s / t_s)))
    return np.array(rows) * t_s**case.power


def test_the_table_has_every_divergence():
    assert {case.name for case in CASES} == set(DIVERGENCES)


@pytest.mark.parametrize("case", CASES, ids=str)
@given(
    rows=st.integers(1, 4),
    classes=st.integers(2, 9),
    scale=st.sampled_from(SCALES[:3]),
    seed=st.integers(0, 2**31),
    t_t=st.sampled_from((0.5, 1.0, 3.0, 20.0)),
    t_s=st.sampled_from((0.5, 1.0, 3.0, 20.0)),
)
def test_values_are_scipys(case, rows, classes, scale, seed, t_t, t_s):
    student, teacher = draw((rows, classes), scale, seed), draw((rows, classes), scale, seed + 1)
    if not case.on_logits and case.name in ("reverse_kl",) and scale > 1:
        student, teacher = student / 10, teacher / 10  # scipy's ratio of probabilities underflows sooner than ours
    loss = distillation_loss(
        student, teacher, alpha=1, temperature=(t_t, t_s), divergence=case.name, reduction="none", **case.options
    )
    np.testing.assert_allclose(loss.numpy(), expected(case, student, teacher, t_t, t_s), rtol=1e-7, atol=1e-12)


def test_the_loss_people_write_by_hand():
    student, teacher, labels = draw((6, 11)), draw((6, 11), seed=1), torch.arange(6)
    for t, alpha in ((1.0, 0.3), (4.0, 0.9)):
        soft = F.kl_div(F.log_softmax(student / t, -1), F.softmax(teacher / t, -1), reduction="batchmean") * t * t
        by_hand = alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)
        torch.testing.assert_close(distillation_loss(student, teacher, labels, temperature=t, alpha=alpha), by_hand)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_hard_term_is_torchs_cross_entropy(smoothing, weighted):
    logits, labels = draw((7, 5)), torch.tensor([0, 1, 2, 3, 4, -100, 0])
    weight = torch.rand(5, dtype=torch.float64) if weighted else None
    ours = distillation_loss(logits, None, labels, alpha=0, weight=weight, label_smoothing=smoothing, reduction="sum")
    torchs = F.cross_entropy(logits, labels, weight=weight, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(ours, torchs)


def test_label_smoothing_spreads_over_present_classes_only():
    logits = draw((3, 4))
    absent = torch.cat([logits, torch.full((3, 2), -math.inf, dtype=torch.float64)], -1)
    options = {"labels": torch.tensor([0, 1, 2]), "alpha": 0, "label_smoothing": 0.1}
    torch.testing.assert_close(distillation_loss(absent, None, **options), distillation_loss(logits, None, **options))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_compensate(case):
    student, teacher = draw((4, 6)), draw((4, 6), seed=1)
    t = 3.0
    options = dict(alpha=1, temperature=t, divergence=case.name, **case.options)
    plain = distillation_loss(student, teacher, compensate=False, **options)
    torch.testing.assert_close(distillation_loss(student, teacher, **options), plain * t**case.power)
    curved = distillation_loss(student, teacher, compensate="curvature", **options)
    torch.testing.assert_close(curved, plain * t**case.power / (case.curvature or 1))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_temperature_for_each_position(case):
    student, teacher = draw((2, 3, 5)), draw((2, 3, 5), seed=1)
    temperatures = torch.tensor([[0.5, 1.0, 2.0], [3.0, 4.0, 20.0]], dtype=torch.float64)
    options = dict(alpha=1, divergence=case.name, reduction="none", **case.options)
    together = distillation_loss(student, teacher, temperature=temperatures, **options)
    for i in range(2):
        for j in range(3):
            one = distillation_loss(student[i, j], teacher[i, j], temperature=temperatures[i, j].item(), **options)
            torch.testing.assert_close(together[i, j], one)


def test_a_pair_of_temperatures_is_compensated_at_the_students():
    student, teacher = draw((4, 6)), draw((4, 6), seed=1)
    loss = distillation_loss(student, teacher, alpha=1, temperature=(4.0, 1.0))  # TTM: no compensation
    kl = F.kl_div(F.log_softmax(student, -1), F.softmax(teacher / 4, -1), reduction="batchmean")
    torch.testing.assert_close(loss, kl)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_is_read_and_computed_in_float32(case, dtype):
    student, teacher = draw((8, 50), 3.0).to(dtype), draw((8, 50), 3.0, seed=1).to(dtype)
    options = dict(alpha=1, temperature=2.0, divergence=case.name, reduction="none", **case.options)
    loss = distillation_loss(student, teacher, **options)
    truth = distillation_loss(student.double(), teacher.double(), **options)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), truth, rtol=2e-6, atol=2e-6)


def test_dtypes_may_differ_and_float64_needs_both():
    student, teacher = draw((2, 3)), draw((2, 3), seed=1)
    assert distillation_loss(student, teacher, alpha=1).dtype == torch.float64
    assert distillation_loss(student, teacher.bfloat16(), alpha=1).dtype == torch.float32


def test_logit_mse_loss():
    student, teacher = draw((4, 6)), draw((4, 6), seed=1)
    shifted = teacher + 7.0
    torch.testing.assert_close(logit_mse_loss(student, shifted), logit_mse_loss(student, teacher))
    raw = logit_mse_loss(student, shifted, center=False)
    torch.testing.assert_close(raw, 0.5 * F.mse_loss(student, shifted))
    named = distillation_loss(student, teacher, alpha=1, divergence="logit_mse", temperature=9.0)
    torch.testing.assert_close(named, logit_mse_loss(student, teacher))


def test_parts_mix_to_the_total():
    student, teacher, labels = draw((4, 6)), draw((4, 6), seed=1), torch.tensor([1, 2, -100, 0])
    parts = distillation_loss_parts(student, teacher, labels, alpha=0.3, temperature=2.0)
    torch.testing.assert_close(parts.total, 0.3 * parts.soft + 0.7 * parts.hard)
    torch.testing.assert_close(parts.soft, distillation_loss(student, teacher, labels, alpha=1, temperature=2.0))
    torch.testing.assert_close(parts.hard, F.cross_entropy(student, labels, ignore_index=-100))
    assert distillation_loss_parts(student, teacher, alpha=1).hard is None
    assert distillation_loss_parts(student, None, labels, alpha=0).soft is None


@pytest.mark.parametrize("case", ON_PROBABILITIES, ids=str)
def test_close_distributions_in_bfloat16(case):
    """The difference of two close distributions survives: only the reading of bfloat16 logits rounds."""
    teacher = draw((4, 32000), 2.5, dtype=torch.float32)
    student = (teacher + 0.03 * draw((4, 32000), seed=1, dtype=torch.float32)).bfloat16()
    teacher = teacher.bfloat16()
    options = dict(alpha=1, temperature=2.0, divergence=case.name, **case.options)
    gradients = []
    for s, t in ((student, teacher), (student.double(), teacher.double())):
        s = s.clone().requires_grad_()
        distillation_loss(s.float() if s.dtype == torch.bfloat16 else s, t, **options).backward()
        gradients.append(s.grad.double())
    error = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert error < 0.005  # the gradient's own rounding to bfloat16 is 0.2 to 0.4 %
