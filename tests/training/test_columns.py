"""Columns of a data set that neither model takes are dropped."""

import datasets
import pytest
from torch import nn

from limbeck.training.columns import drop_unused_columns


class Takes(nn.Module):
    """A model whose inputs are the arguments of a given function."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


STUDENT, TEACHER = Takes(lambda x: x), Takes(lambda x, y: x + y)


def dataset(*names):
    return datasets.Dataset.from_dict({name: [0, 1] for name in names})


@pytest.mark.parametrize(
    ("models", "kept"),
    [
        ([STUDENT, TEACHER], ["x", "y", "labels", "mask", "example_id"]),
        ([STUDENT, None], ["x", "labels", "mask", "example_id"]),
        ([None, None], ["x", "y", "labels", "mask", "example_id", "note"]),
    ],
)
def test_inputs_of_either_model_and_targets_stay(models, kept):
    data = dataset("x", "y", "labels", "mask", "example_id", "note")
    assert drop_unused_columns(data, models).column_names == kept
    assert drop_unused_columns({"a": data}, models)["a"].column_names == kept


def test_a_single_input_may_have_any_name():
    data = dataset("features", "labels")
    assert drop_unused_columns(data, [STUDENT]) is data


@pytest.mark.parametrize("data", [None, [{"x": 1, "note": 2}]])
def test_other_data_sets_are_left_alone(data):
    assert drop_unused_columns(data, [STUDENT]) is data
