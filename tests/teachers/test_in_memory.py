"""The teacher whose logits are in memory."""

import torch

from limbeck.teachers import InMemoryTeacher, Teacher


def test_logits_are_looked_up_by_example_id():
    logits = torch.randn(6, 3)
    teacher = InMemoryTeacher(logits).to(torch.device("cpu"))
    assert torch.equal(teacher({"example_id": torch.tensor([4, 0, 4])}).logits, logits[[4, 0, 4]])
    assert isinstance(teacher, Teacher)
    assert teacher.single_view
