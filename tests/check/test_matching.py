"""Formulas with a parameter or weights are found with their numbers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck import distillation_loss
from limbeck.check import check_loss
from limbeck.check.calling import as_loss
from limbeck.check.matching import match
from limbeck.check.probe import open_probe


def found(**options):
    def loss(student_logits, teacher_logits, labels, temperature):
        return distillation_loss(student_logits, teacher_logits, labels, temperature=temperature, **options)

    return match(open_probe(as_loss(loss), None), has_hard=True)


@settings(max_examples=3, deadline=None)
@given(st.floats(0.05, 0.95))
def test_beta_is_found(beta):
    name = found(divergence="jsd", beta=beta).soft.name
    assert float(name.removeprefix("JSD(beta=").removesuffix(")")) == pytest.approx(beta, abs=6e-3)


@pytest.mark.parametrize(
    ("divergence", "name"), [("skew_kl", "KL(teacher ‖ 0.3"), ("skew_reverse_kl", "KL(student ‖ 0.3")]
)
def test_skew_is_found(divergence, name):
    assert found(divergence=divergence, skew=0.3).soft.name.startswith(name)


@settings(max_examples=3, deadline=None)
@given(alpha=st.floats(0.1, 0.9), smoothing=st.floats(0, 0.5))
def test_weights_are_found(alpha, smoothing):
    seen = found(alpha=alpha, label_smoothing=smoothing, reduction="sum")
    assert seen.soft_weights == pytest.approx([alpha * 9])
    assert seen.hard_weights == pytest.approx([(1 - alpha) * (1 - smoothing), (1 - alpha) * smoothing], abs=1e-9)


def test_two_directions_are_told_with_their_weights():
    def loss(s, t, T):  # noqa: N803
        forward, reverse = (
            distillation_loss(s, t, alpha=1, temperature=T, divergence=name) for name in ("forward_kl", "reverse_kl")
        )
        return 0.3 * forward + 0.7 * reverse

    assert check_loss(loss).formula.startswith("0.3 T² KL(teacher ‖ student) + 0.7 T² KL(student ‖ teacher)")
