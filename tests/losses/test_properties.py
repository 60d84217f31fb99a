"""What must hold for any logits: hypothesis draws shapes, scales, seeds and options."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES
from limbeck import distillation_loss

logits = st.builds(
    lambda rows, classes, scale, seed: (
        scale * torch.randn(2, rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ),
    rows=st.integers(1, 5),
    classes=st.integers(2, 12),
    scale=st.sampled_from((1e-3, 1.0, 30.0, 300.0)),
    seed=st.integers(0, 2**31),
)
temperatures = st.sampled_from((0.5, 1.0, 2.0, 3.0, 4.0, 20.0))
every_divergence = pytest.mark.parametrize("case", CASES, ids=str)


def soft(student, teacher, case, t, **options):
    return distillation_loss(
        student, teacher, alpha=1, temperature=t, divergence=case.name, reduction="none", **case.options, **options
    )


@every_divergence
@given(pair=logits, t=temperatures)
def test_equal_logits_have_zero_loss_and_zero_gradient(case, pair, t):
    student = pair[0].clone().requires_grad_()
    loss = soft(student, pair[0], case, t)
    loss.sum().backward()
    assert loss.abs().max() <= 1e-12 * t * t
    assert student.grad.abs().max() <= 1e-12 * t


@every_divergence
@given(pair=logits, t=temperatures)
def test_never_negative_and_finite(case, pair, t):
    student = pair[0].clone().requires_grad_()
    loss = soft(student, pair[1], case, t)
    loss.sum().backward()
    assert (loss >= -1e-12 * t * t).all()
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


@every_divergence
@given(pair=logits, t=temperatures, shift=st.floats(-50, 50))
def test_a_constant_added_to_a_row_changes_nothing(case, pair, t, shift):
    shifted = soft(pair[0] + shift, pair[1] - shift, case, t)
    torch.testing.assert_close(shifted, soft(pair[0], pair[1], case, t), rtol=1e-9, atol=1e-9)


@every_divergence
@given(pair=logits, t=temperatures, seed=st.integers(0, 2**31))
def test_the_order_of_classes_does_not_matter(case, pair, t, seed):
    order = torch.randperm(pair.shape[-1], generator=torch.Generator().manual_seed(seed))
    permuted = soft(pair[0][:, order], pair[1][:, order], case, t)
    torch.testing.assert_close(permuted, soft(pair[0], pair[1], case, t), rtol=1e-9, atol=1e-9)


@every_divergence
@given(pair=logits, t=temperatures, seed=st.integers(0, 2**31), junk=st.sampled_from((math.nan, math.inf, 1e30)))
def test_ignored_positions_change_nothing_whatever_they_hold(case, pair, t, seed, junk):
    rows = pair.shape[1]
    counted = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < 0.6
    labels = torch.where(counted, torch.arange(rows) % pair.shape[-1], -100)
    options = dict(temperature=t, alpha=0.5, divergence=case.name, **case.options)
    dirty = pair.clone()
    dirty[:, ~counted] = junk
    student = dirty[0].clone().requires_grad_()
    loss = distillation_loss(student, dirty[1], labels, **options)
    loss.backward()
    clean = pair[0].clone().requires_grad_()
    if counted.any():
        only = distillation_loss(clean[counted], pair[1][counted], labels[counted], **options)
        only.backward()
        torch.testing.assert_close(loss, only)
        torch.testing.assert_close(student.grad, clean.grad)
    else:
        assert loss == 0
        assert (student.grad == 0).all()


@every_divergence
@given(pair=logits, t=temperatures, extra=st.integers(1, 3))
def test_columns_absent_in_both_change_nothing(case, pair, t, extra):
    absent = torch.full((2, pair.shape[1], extra), -math.inf, dtype=pair.dtype)
    wide = torch.cat([pair, absent], -1)
    torch.testing.assert_close(soft(wide[0], wide[1], case, t), soft(pair[0], pair[1], case, t), rtol=1e-9, atol=1e-9)


@every_divergence
@given(pair=logits, t=temperatures)
def test_float32_is_close_to_float64(case, pair, t):
    if pair.abs().max() > 100:
        pair = pair / 10
    got = soft(pair[0].float(), pair[1].float(), case, t).double()
    truth = soft(pair[0].float().double(), pair[1].float().double(), case, t)
    torch.testing.assert_close(got, truth, rtol=1e-5, atol=5e-6 * t * t)


@given(pair=logits)
def test_any_leading_shape(pair):
    rows, classes = pair.shape[1:]
    labels = torch.arange(rows) % classes
    flat = distillation_loss(pair[0], pair[1], labels)
    shaped = distillation_loss(pair[0][None, :, None], pair[1][None, :, None], labels[None, :, None])
    torch.testing.assert_close(shaped, flat)
    none = distillation_loss(pair[0][None], pair[1][None], labels[None], reduction="none")
    assert none.shape == (1, rows)
    torch.testing.assert_close(none.mean(), flat)
