"""Classes that a model cannot choose, with a temperature that is learned: value and every gradient stay right."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import CASES
from limbeck.losses import distillation_loss

ONE_SIDED = [
    (case, lacking)
    for lacking, own in (("teacher", "forward_kl"), ("student", "reverse_kl"))
    for case in CASES
    if case.name in (own, "jsd", "skew_kl", "skew_reverse_kl", "tvd") and not {0.0, 1.0} & set(case.options.values())
]
"""The divergences that are finite where this model alone lacks a class."""


def value_and_gradients(case, student, teacher, temperatures):
    leaves = [student.clone().requires_grad_(), *(t.clone().requires_grad_() for t in temperatures)]
    loss = distillation_loss(
        leaves[0], teacher, alpha=1.0, temperature=tuple(leaves[1:]), divergence=case.name, **case.options
    )
    gradients = torch.autograd.grad(loss, leaves, allow_unused=case.on_logits)
    return [loss.detach(), *(torch.zeros(()) if x is None else x for x in gradients)]


@st.composite
def temperatures(draw, rows, dtype):
    """Draw a pair of learned temperatures: one number each, or one for each position."""
    shape = draw(st.sampled_from([(), (rows,)]))
    numbers = st.floats(0.25, 8.0, width=32)
    return [torch.tensor([draw(numbers) for _ in range(rows)], dtype=dtype)[: None if shape else 1].reshape(shape or ())
            for _ in range(2)]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_classes_that_both_models_lack_are_as_if_they_were_not_there(case, data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    rows, classes, absent = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 6)), data.draw(st.integers(1, 3))
    places = torch.randperm(classes + absent, generator=generator)[:classes]
    fills = st.sampled_from([-math.inf] if case.on_logits else [-math.inf, torch.finfo(dtype).min])
    clean, wide = [], []
    for _ in range(2):
        clean.append((2 * torch.randn(rows, classes, generator=generator)).to(dtype))
        wide.append(torch.full((rows, classes + absent), data.draw(fills), dtype=dtype))
        wide[-1][:, places] = clean[-1]
    softening = data.draw(temperatures(rows, dtype))
    expected = value_and_gradients(case, *clean, softening)
    found = value_and_gradients(case, *wide, softening)
    assert found[1].sum(-1).isfinite().all()
    found[1] = found[1][:, places]
    torch.testing.assert_close(found, expected, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=1e-5)


@pytest.mark.parametrize(("case", "lacking"), ONE_SIDED, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_a_class_that_one_model_lacks_is_one_of_probability_zero(case, lacking, data):
    """The truth is a logit so low, yet finite, that its probability is 0 in float64."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    rows = data.draw(st.integers(1, 3))
    student, teacher = (torch.randn(rows, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    softening = data.draw(temperatures(rows, torch.float64))
    results = []
    for fill in (-math.inf, -1e4):
        (teacher if lacking == "teacher" else student)[:, 1] = fill
        results.append(value_and_gradients(case, student, teacher, softening))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)
