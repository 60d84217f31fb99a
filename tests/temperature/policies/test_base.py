"""The parts that all policies share, compared with numbers by hand."""

import math

import pytest
import torch

from limbeck.errors import ArgumentError
from limbeck.temperature import POLICIES, Softening
from limbeck.temperature.policies.base import as_float, check_positive, require_teacher_logits


def test_one_temperature_or_a_pair():
    assert Softening(2.0, 3.0).temperature == (2.0, 3.0)
    t = torch.tensor([1.0, 2.0])
    assert Softening(t, t).temperature is t
    assert Softening(2.0, 3.0).scale is None
    assert Softening(2.0, 3.0, 6.0).scale == 6.0


@pytest.mark.parametrize("wrong", [0, -1.0, math.inf, math.nan, True, "4", None], ids=repr)
def test_an_argument_that_is_not_a_positive_number_is_named(wrong):
    check_positive(start=1, end=0.5)
    with pytest.raises(ArgumentError) as caught:
        check_positive(start=1, end=wrong)
    assert (caught.value.argument, caught.value.message) == ("end", f"expected a positive number, got {wrong!r}.")


def test_logits_of_all_classes_are_required():
    logits = torch.zeros(2, 3)
    assert require_teacher_logits(logits) is logits
    with pytest.raises(ValueError, match="temperature: this policy needs all of the teacher's logits"):
        require_teacher_logits(None)


def test_floats_are_at_least_32_bits_wide():
    dtypes = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float64: torch.float64}
    for given, expected in dtypes.items():
        assert as_float(torch.zeros(2, 3, dtype=given)).dtype == expected


def test_every_policy_has_a_nominal_temperature():
    for policy in POLICIES.values():
        assert 0 < policy().nominal_temperature < math.inf
    assert POLICIES["learned"](start=4.0).nominal_temperature == pytest.approx(4.0)
