"""The measured error of a format, compared with closed forms."""

import math

import pytest
import torch

from limbeck.store import Dense, FormatQuality, Sampled, TopK, measure_format
from support.stores import draw


def test_an_exact_format_has_no_error():
    assert measure_format(Dense("float32"), draw(20, 5)) == FormatQuality(20, 20, 0.0, 0.0)


def test_the_error_of_a_rounded_logit():
    """float16 keeps 11 bits, so 2049 becomes 2048 and every log-probability moves by at most 1."""
    quality = measure_format(Dense("float16"), torch.tensor([[2049.0, 2048.0]]))
    p = 1 / (1 + math.exp(-1))  # of the first class; stored as 1/2
    errors = [abs(math.log(0.5) - math.log(p)), abs(math.log(0.5) - math.log(1 - p))]
    assert quality.mean_error == pytest.approx(p * errors[0] + (1 - p) * errors[1])
    assert quality.largest_error == pytest.approx(max(errors))


def test_only_stored_classes_count():
    logits = torch.tensor([[3.0, 0.0, -3.0, -40.0]]).log_softmax(-1)
    quality = measure_format(TopK(2, (), "float32"), logits)
    assert quality.mean_error == pytest.approx(0, abs=1e-6)
    assert (quality.stored_bytes, quality.payload_bytes) == (13, 12.5)  # two ids of 2 bits, two float32, the rest


def test_an_absent_class_adds_no_error():
    quality = measure_format(Dense("float16"), torch.tensor([[0.0, 1.0, -math.inf]]))
    assert quality.largest_error == pytest.approx(0, abs=1e-12)


def test_draws_have_no_error_of_probabilities():
    quality = measure_format(Sampled(12), draw(20, 10))
    assert quality == FormatQuality(6, 6, None, None)
