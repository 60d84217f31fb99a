"""The small functions of divergences, where the obvious formula loses digits or gives NaN."""

import math

import numpy as np
import pytest
import torch

from limbeck.losses.arithmetic import (
    LOG_ZERO,
    difference,
    exp,
    expectation,
    log_mixture,
    minimum,
    minus_expm1,
    mixture,
    relative_entropy,
)


def test_exp():
    x = torch.linspace(-80, 80, 1001, dtype=torch.float64)
    np.testing.assert_allclose(exp(x).numpy(), np.exp(x.numpy()), rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_zero_is_finite_and_its_exponential_is_zero(dtype):
    assert torch.tensor(LOG_ZERO, dtype=dtype).exp() == 0


def test_zero_times_log_zero_is_zero_in_value_and_gradient():
    p = torch.tensor([0.0, 0.5], requires_grad=True)
    ratio = torch.tensor([math.inf, 2.0], requires_grad=True)
    terms = expectation(p, ratio)
    terms.sum().backward()
    assert terms.tolist() == [0.0, 1.0]
    assert p.grad.tolist() == [0.0, 2.0]
    assert ratio.grad.tolist() == [0.0, 0.5]
    assert expectation(torch.tensor([math.nan]), torch.zeros(1)).isnan()


RATIOS = np.concatenate([x * sign for x in (np.logspace(-9, 1.5, 60),) for sign in (1, -1)]).astype(np.longdouble)
"""log(p / q), on both sides of every bound."""


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_log_mixture_against_more_digits(fraction):
    truth = np.log1p(fraction * np.expm1(RATIOS)).astype(float)
    got = log_mixture(torch.tensor(RATIOS.astype(float)), fraction)
    np.testing.assert_allclose(got.numpy(), truth, rtol=1e-12)


def test_log_mixture_far_apart():
    far = torch.tensor([1000.0, -1000.0, -math.inf], dtype=torch.float64)
    truth = torch.tensor([1000 + math.log(0.75), math.log(0.25), math.log(0.25)], dtype=torch.float64)
    torch.testing.assert_close(log_mixture(far, 0.75), truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differences_and_relative_entropies_keep_their_digits(dtype):
    ratio = torch.tensor(RATIOS.astype(float), dtype=dtype)
    exact = ratio.numpy().astype(np.longdouble)
    q = torch.full_like(ratio, 1e-3)
    p = torch.tensor((1e-3 * np.exp(exact)).astype(float), dtype=dtype)
    tolerance = 3e-6 if dtype == torch.float32 else 1e-9
    np.testing.assert_allclose(
        difference(p, q, ratio).double(), (-1e-3 * np.expm1(exact)).astype(float), rtol=tolerance
    )
    series = sum((n - 1) * exact**n / math.factorial(n) for n in range(2, 12))  # x e^x - expm1(x)
    truth = 1e-3 * np.where(abs(exact) < 0.1, series, exact * np.exp(exact) - np.expm1(exact))
    terms = relative_entropy(p, q, ratio)
    np.testing.assert_allclose(terms.double(), truth.astype(float), rtol=tolerance)
    assert (terms >= 0).all()
    np.testing.assert_allclose(minus_expm1(ratio).double(), -np.expm1(exact).astype(float), rtol=tolerance)


def test_relative_entropy_where_a_probability_is_zero():
    p, q = torch.tensor([0.0, 0.3, math.nan]), torch.tensor([0.2, 0.0, 0.1])
    ratio = torch.tensor([-math.inf, math.inf, math.nan], requires_grad=True)
    terms = relative_entropy(p, q, ratio)
    torch.testing.assert_close(terms.detach(), torch.tensor([0.2, math.inf, math.nan]), equal_nan=True)
    terms.sum().backward()
    torch.testing.assert_close(ratio.grad, torch.tensor([0.0, 0.3, math.nan]), equal_nan=True)


def test_mixture():
    assert mixture(torch.tensor(1.0), torch.tensor(3.0), 0.25).item() == 2.5


def test_minimum():
    assert minimum(torch.tensor([1.0, 3.0]), 2.0).tolist() == [1.0, 2.0]
