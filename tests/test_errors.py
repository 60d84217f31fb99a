"""What errors say about unknown names."""

import pytest

from limbeck.errors import closest, expected_name, suggestion
from limbeck.losses import DIVERGENCES


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("kl", "forward_kl"),
        ("KLD", "forward_kl"),
        ("rkl", "reverse_kl"),
        ("mse", "logit_mse"),
        ("jds", "jsd"),
        ("x", None),
    ],
)
def test_the_name_that_was_meant(given, meant):
    assert closest(given, list(DIVERGENCES)) == meant


def test_a_short_name_is_told_where_its_name_is_known():
    assert suggestion("T", ["temperature", "alpha"]) == ", did you mean temperature?"
    assert suggestion("T", ["alpha"]) == "; known are alpha"
    assert expected_name("kl", DIVERGENCES).endswith("got 'kl'. Did you mean forward_kl?")
