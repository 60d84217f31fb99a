"""The explorer of a run marks where negative labels become noise, and says why where it does not."""

import pytest
import torch
from torch import nn

from limbeck.commands.exploring import explorer_of
from limbeck.config import config_from
from limbeck.data import load_splits
from limbeck.evaluation import predict_logits
from limbeck.report import Mark

VALUES = {"data": {"name": "digits"}, "teacher": {"model": "mlp"}, "student": {"model": "mlp"}}


class Noisy(nn.Module):
    """Gives the classes 0 and 1 clear logits; those of the others are lower, and close to each other under dropout."""

    def __init__(self, dropout):
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixel_values):
        fixed = torch.tensor([9.0, 5.0] + [0.0] * 8).expand(len(pixel_values), 10)
        return fixed + 0.01 * self.dropout(torch.ones_like(fixed) * torch.arange(10) * (torch.arange(10) > 1))


@pytest.fixture(scope="module")
def splits():
    return load_splits(config_from(VALUES).data, seed=0)


def explored(splits, teacher, columns=10):
    logits = predict_logits(teacher, splits.test)
    return explorer_of(
        config_from(VALUES), splits, teacher, (logits, logits[:, :columns]), [Mark(4.0, "used")], "A note."
    )


def test_where_negative_labels_become_noise(splits):
    found = explored(splits, Noisy(0.5))
    assert found.steady == 1
    used, noise = found.marks
    assert (used.temperature, noise.name) == (4.0, "noise above")
    assert noise.temperature == pytest.approx(5 / torch.tensor(8.0).log().item(), rel=0.03)  # e^(5/T) = 8
    assert found.notes[0] == "A note."
    assert found.notes[1].startswith("The first negative rank is steady over dropout passes of 200 test examples;")
    assert len(found.shown) == 10
    assert all(one.labels == (splits.test.labels[int(one.title.split()[-1])],) for one in found.shown)


def test_a_teacher_with_one_view_has_no_such_mark(splits):
    found = explored(splits, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert found.steady is None
    assert [mark.name for mark in found.marks] == ["used"]
    assert found.notes[1].startswith("Where negative labels become noise is not marked: there is one view")


def test_outputs_that_are_no_classes_of_the_data_have_no_explorer(splits):
    assert explored(splits, Noisy(0.5), columns=9) is None
