"""The small functions of divergences, where the obvious formula loses digits or gives NaN."""

import math

import numpy as np
import pytest
import torch

from limbeck.losses.arithmetic import LOG_ZERO, exp, expectation, log_mixture_ratio, minimum


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


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_log_mixture_ratio_against_more_digits(fraction):
    x = np.linspace(-8, 0, 41, dtype=np.longdouble)[:, None]
    y = np.concatenate([x.ravel(), x.ravel() + 1e-9])[None, :]
    truth = np.log((fraction * np.exp(x) + (1 - fraction) * np.exp(y)) / np.exp(x)).astype(float)
    got = log_mixture_ratio(torch.tensor(x.astype(float)), fraction, torch.tensor(y.astype(float)))
    np.testing.assert_allclose(got.numpy(), truth, rtol=1e-12, atol=1e-15)


def test_log_mixture_ratio_far_apart():
    far = torch.tensor([1000.0, -1000.0], dtype=torch.float64)
    got = log_mixture_ratio(torch.zeros(2, dtype=torch.float64), 0.25, far)
    torch.testing.assert_close(got, torch.tensor([1000 + math.log(0.75), math.log(0.25)], dtype=torch.float64))


def test_minimum():
    assert minimum(torch.tensor([1.0, 3.0]), 2.0).tolist() == [1.0, 2.0]
