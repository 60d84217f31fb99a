"""The base class of teachers."""

import pytest
import torch

from limbeck.teachers import Teacher, TeacherOutput


class Constant(Teacher):
    def __call__(self, batch):
        return TeacherOutput(torch.ones(len(batch["x"]), 3))


def test_a_subclass_needs_only_to_be_callable():
    teacher = Constant()
    assert teacher.to(torch.device("cpu")) is teacher
    assert teacher.single_view is False
    assert teacher({"x": torch.zeros(2, 4)}).targets is None


def test_the_base_class_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Teacher()
