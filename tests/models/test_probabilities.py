"""Teachers that give probabilities: their logarithms are logits, at every temperature, also where a probability is 0."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from limbeck.errors import ArgumentError
from limbeck.losses import distillation_loss
from limbeck.models import LogProbabilities, SelectedColumns, class_names_in_config, forward_logits
from limbeck.models import logits_of_probabilities as logits_of
from limbeck.models.forward import input_names

ROWS = torch.tensor([[0.7, 0.2, 0.1, 0.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_tempering_them_is_a_power_of_the_probabilities(temperature):
    powers = ROWS ** (1 / temperature)
    expected = powers / powers.sum(-1, keepdim=True)
    torch.testing.assert_close((logits_of(ROWS) / temperature).softmax(-1), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_each_dtype_is_taken_and_none_is_rounded_again(dtype):
    given_rows = ROWS.to(dtype)
    found = logits_of(given_rows)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found, given_rows.double().log().to(found.dtype))


@given(st.integers(2, 40), st.integers(0, 2**32))
@settings(max_examples=20)
def test_a_zero_teaches_as_a_zero_does(classes, seed):
    """Forward KL at T = 1 against sum p log(p / q) in float64 with 0 log 0 = 0."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(3, classes, generator=generator, dtype=torch.float64)
    p[:, 1:] *= torch.rand(3, classes - 1, generator=generator) > 0.5
    p /= p.sum(-1, keepdim=True)
    student = torch.randn(3, classes, generator=generator, dtype=torch.float64)
    expected = (torch.special.xlogy(p, p) - p * student.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(distillation_loss(student, logits_of(p), temperature=1.0, alpha=1.0), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_of_each_class_are_those_of_its_sigmoid(dtype):
    p = torch.tensor([[0.0, 0.25, 0.9, 1.0]], dtype=dtype)
    found = logits_of(p, "sigmoid")
    assert found.isfinite().all()
    exact = p[0, 1:3].double()
    torch.testing.assert_close(found[0, 1:3].double(), exact.log() - (1 - exact).log(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.sigmoid().to(dtype), p, atol=torch.finfo(dtype).eps, rtol=0)
    for wrong in (torch.tensor([1.5]), torch.tensor([torch.nan])):
        with pytest.raises(ArgumentError, match=r"probabilities: expected numbers in \[0, 1\]"):
            logits_of(wrong, "sigmoid")


@pytest.mark.parametrize("wrong", [torch.full((2, 4), 0.5), torch.tensor([[1.5, -0.5]]), torch.randn(2, 5) * 9])
def test_what_are_no_probabilities_is_refused(wrong):
    with pytest.raises(ArgumentError, match=r"probabilities: expected rows in \[0, 1\] that sum to 1, got values from"):
        logits_of(wrong)


def test_a_wrapped_model_keeps_its_names_and_its_signature():
    class Forest(nn.Module):
        config = type("Config", (), {"id2label": {0: "a", 1: "b"}})()

        def forward(self, pixel_values, scale=1.0):
            return pixel_values.softmax(-1)

    model = LogProbabilities(Forest())
    batch = {"pixel_values": torch.randn(3, 2), "other": torch.zeros(3)}
    torch.testing.assert_close(forward_logits(model, batch), batch["pixel_values"].log_softmax(-1))
    assert input_names(model) == {"pixel_values", "scale"}
    assert class_names_in_config(SelectedColumns(model, [1, 0])).names == ("b", "a")
