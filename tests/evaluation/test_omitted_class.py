"""The bias of a class that training omitted, and how many of its examples the student gets right."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.evaluation import best_bias, omitted_class_metrics


@given(rows=st.integers(1, 30), classes=st.integers(2, 5), seed=st.integers(0, 10**6))
def test_best_bias_is_as_good_as_any(rows, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    wanted = seed % classes

    def right(bias):
        shifted = logits.clone()
        shifted[:, wanted] += bias
        return (shifted.argmax(-1) == labels).sum().item()

    found = right(best_bias(logits, labels, wanted))
    others = logits.clone()
    others[:, wanted] = -math.inf
    thresholds = (others.amax(-1) - logits[:, wanted]).sort().values
    candidates = [thresholds[0] - 1, thresholds[-1] + 1, *((thresholds[1:] + thresholds[:-1]) / 2)]
    assert found == max(right(float(bias)) for bias in candidates)


def test_the_metrics_of_an_omitted_class_by_hand():
    """Class 2 always has a logit that is 2 too low; its bias is chosen on validation, whose class 2 needs more than 1."""
    validation = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0]])
    validation_labels = torch.tensor([0, 1, 2])
    test = torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [4.0, 0.0, 0.0]])
    labels = torch.tensor([0, 0, 2, 2, 2])
    assert best_bias(validation, validation_labels, 2) == 2  # the middle between 1, where class 2 wins, and 3
    found = omitted_class_metrics(validation, validation_labels, test, labels, omitted=2)
    assert found == {
        "before": 1 / 3,  # the fourth
        "after": 2 / 3,  # the third too
        "all_before": 3 / 5,
        "all_after": 3 / 5,  # the second is lost to class 2
        "validation_after": 1.0,
    }
