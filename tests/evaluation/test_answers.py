"""Answers about pixels: metrics and their errors against closed forms and the whole set at once."""

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from limbeck.evaluation.answers import Outputs, collect_answers
from limbeck.tasks import DensePrediction, Targets

TASK = DensePrediction()


def drawn(seed, examples=6):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(examples, 3, 4, 5, generator=generator)
    labels = torch.randint(0, 3, (examples, 4, 5), generator=generator)
    labels[:, 0, : seed % 4] = -100
    return logits, labels


def answers(logits, labels):
    size = max(2, len(labels) // 4)
    batches = zip(TASK.align(logits).split(size), labels.split(size), strict=True)
    return collect_answers(TASK, ((Outputs(z), Targets(y, y != -100)) for z, y in batches))


def test_batches_give_the_metrics_of_the_whole_set():
    logits, labels = drawn(1)
    ours, known = answers(logits, labels), labels != -100
    expected = TASK.metrics(TASK.align(logits), labels)
    assert ours.metrics == pytest.approx(expected, rel=1e-6)
    per_class = jaccard_score(labels[known], logits.argmax(1)[known], average=None)
    assert ours.class_metrics["iou"].tolist() == pytest.approx(per_class.tolist())
    other = answers(-logits, labels)
    agreed = (logits.argmax(1) == logits.argmin(1))[known].double().mean().item()
    assert ours.agreement(other).mean().item() == pytest.approx(agreed)


def test_the_spread_of_examples_is_that_of_the_metric():
    """The error of mean IoU over test sets: by the numbers of one set's examples, and by drawing many sets."""
    logits, labels = drawn(2, examples=2000)
    labels = torch.where(
        torch.rand(labels.shape, generator=torch.Generator().manual_seed(0)) < 0.5, logits.argmax(1), labels
    )
    everything = answers(logits, labels)
    sums = everything.sums.reshape(40, 50, -1).sum(1)
    drawn_sets = [TASK.metrics_of_sums(everything.names, one)["mean_iou"].item() for one in sums]
    values = everything.values_of_examples("mean_iou")
    assert values.mean().item() == pytest.approx(everything.metrics["mean_iou"])
    assert values.std().item() / 50**0.5 == pytest.approx(np.std(drawn_sets, ddof=1), rel=0.3)


def test_a_class_without_pixels_is_in_no_table():
    logits, labels = drawn(1)
    logits[:, 2], labels[labels == 2] = -9.0, 0
    ours = answers(logits, labels)
    assert ours.class_metrics["iou"].isnan().tolist() == [False, False, True]
    assert not ours.values_of_examples("mean_iou").isnan().any()
