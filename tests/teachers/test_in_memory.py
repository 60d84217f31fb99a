"""The teacher whose logits are in memory."""

import pytest
import torch

from limbeck.errors import ArgumentError, DataError
from limbeck.teachers import InMemoryTeacher, Teacher


def test_logits_are_looked_up_by_example_id():
    logits = torch.randn(6, 3)
    teacher = InMemoryTeacher(logits).to(torch.device("cpu"))
    assert torch.equal(teacher({"example_id": torch.tensor([4, 0, 4])}).logits, logits[[4, 0, 4]])
    assert isinstance(teacher, Teacher)
    assert teacher.single_view


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": torch.zeros(2, 3)}, "example_id: missing in the batch, and a teacher in memory finds its rows by it"),
        ({"example_id": torch.tensor([0, 6])}, "example_id: goes from 0 to 6 in this batch, .* has 6 rows"),
        ({"example_id": torch.tensor([-1, 2])}, "example_id: goes from -1 to 2"),  # would be the last row
    ],
)
def test_examples_without_logits_are_named(batch, message):
    with pytest.raises(DataError, match=message):
        InMemoryTeacher(torch.zeros(6, 3))(batch)


@pytest.mark.parametrize("logits", [[[1.0]], torch.zeros(3), torch.zeros(2, 2, dtype=torch.long)])
def test_something_else_than_logits(logits):
    with pytest.raises(ArgumentError, match=r"^logits: expected a floating-point tensor \(rows, V\)"):
        InMemoryTeacher(logits)
