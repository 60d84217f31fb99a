"""Columns of a data set that neither model takes are dropped."""

import datasets
import pytest
import torch
from torch import nn

from limbeck.teachers import Ensemble, InMemoryTeacher, LiveTeacher, Teacher, TeacherOutput
from limbeck.teachers.live import CallableTeacher
from limbeck.training.columns import drop_unused_columns


class Takes(nn.Module):
    """A model whose inputs are the arguments of a given function."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


class Reads(Teacher):
    def __init__(self, columns):
        self.columns = columns

    def __call__(self, batch):
        return TeacherOutput(torch.zeros(2, 3))


STUDENT, TEACHER = Takes(lambda x: x), LiveTeacher(Takes(lambda x, y: x + y))
STORED = InMemoryTeacher(torch.zeros(2, 3))
UNKNOWN = CallableTeacher(lambda batch: torch.zeros(2, 3))


def dataset(*names, note="note"):
    return datasets.Dataset.from_dict({name: [0, 1] for name in names} | {note: ["a", "b"]})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("teacher", "kept"),
    [
        (TEACHER, "x y labels mask example_id"),
        (None, "x labels mask example_id"),
        (STORED, "x labels mask example_id"),
        (UNKNOWN, "x y hint labels mask example_id"),  # what it reads is not known: all but texts
        (Reads({"hint"}), "x hint labels mask example_id"),
        (Reads(["note"]), "x labels mask example_id note"),
        (Ensemble([STORED, Reads(["hint"]), TEACHER]), "x y hint labels mask example_id"),
        (Ensemble([STORED, UNKNOWN]), "x y hint labels mask example_id"),
    ],
)
def test_columns_of_either_model_and_of_the_targets_stay(teacher, kept, stream):
    data = dataset("x", "y", "hint", "labels", "mask", "example_id")
    if stream:
        data = data.to_iterable_dataset().map(lambda row: row)  # its columns are not known beforehand
        assert data.column_names is None
        assert list(next(iter(drop_unused_columns(data, STUDENT, teacher)))) == kept.split()
    else:
        assert drop_unused_columns(data, STUDENT, teacher).column_names == kept.split()


def test_a_column_that_the_user_names_stays():
    assert "note" in drop_unused_columns(dataset("x", "labels"), STUDENT, None, also_kept=["note"]).column_names


def test_a_single_input_may_have_any_name():
    data = dataset("features", "labels")
    assert drop_unused_columns(data, STUDENT, None) is data


@pytest.mark.parametrize("data", [None, [{"x": 1, "note": 2}], torch.utils.data.TensorDataset(torch.zeros(2))])
def test_other_data_sets_are_left_alone(data):
    assert drop_unused_columns(data, STUDENT, None) is data
