"""Live teachers, and how other objects become teachers."""

import copy

import pytest
import torch
from torch import nn

from limbeck.teachers import InMemoryTeacher, LiveTeacher, Teacher, TeacherOutput, as_teacher
from limbeck.teachers.live import check_separate


def test_a_live_teacher_runs_its_model_in_eval_mode_without_a_graph():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.Linear(8, 3)).train()
    teacher = LiveTeacher(model)
    batch = {"x": torch.randn(5, 4), "labels": torch.zeros(5)}
    first, second = teacher(batch).logits, teacher(batch).logits
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert isinstance(teacher, Teacher)
    assert not isinstance(teacher, nn.Module)


def test_a_live_teacher_casts_inputs_to_its_dtype_and_leaves_ids_alone():
    model = nn.Embedding(5, 3)
    assert LiveTeacher(model, torch.bfloat16)({"input_ids": torch.tensor([[1, 2]])}).logits.dtype == torch.bfloat16
    assert LiveTeacher(nn.Linear(4, 3), torch.float64)({"x": torch.randn(2, 4)}).logits.dtype == torch.float64


class TestAsTeacher:
    def test_a_teacher_is_returned_as_it_is(self):
        teacher = InMemoryTeacher(torch.zeros(2, 3))
        assert as_teacher(teacher, dtype=torch.bfloat16) is teacher

    def test_a_module_is_frozen_and_converted(self):
        model = nn.Linear(4, 3)
        teacher = as_teacher(model, dtype=torch.bfloat16)
        assert isinstance(teacher, LiveTeacher)
        assert teacher.model is model
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.weight.dtype == torch.bfloat16

    def test_an_object_without_the_base_class_keeps_its_own_device_and_view(self):
        class Foreign:
            single_view = True
            device = None

            def to(self, device):
                moved = Foreign()
                moved.device = device
                return moved

            def __call__(self, batch):
                return TeacherOutput(torch.zeros(len(batch["x"]), 3, device=self.device))

        teacher = as_teacher(Foreign())
        assert teacher.single_view
        assert teacher.to(torch.device("meta")) is teacher
        assert teacher({"x": torch.zeros(2)}).logits.device.type == "meta"

    def test_a_function_may_return_logits(self):
        teacher = as_teacher(lambda batch: batch["x"] * 2)
        assert torch.equal(teacher.to(torch.device("cpu"))({"x": torch.ones(2, 3)}).logits, torch.full((2, 3), 2.0))
        assert not teacher.single_view

    @pytest.mark.parametrize(("source", "name"), [(3, "int"), ("gpt2", "str"), (nn.Linear, "the class Linear")])
    def test_what_cannot_be_called_with_a_batch_is_refused(self, source, name):
        with pytest.raises(TypeError, match=rf"^experts: expected a module, a Teacher or a callable, got {name}\."):
            as_teacher(source, argument="experts")


def test_shared_parameters_are_refused():
    student = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    for teacher in (student, nn.Sequential(student[0], nn.Linear(3, 3)), LiveTeacher(student)):
        with pytest.raises(ValueError, match="teacher: it shares parameters"):
            check_separate(teacher, student)
    for teacher in (copy.deepcopy(student), LiveTeacher(nn.Linear(4, 3)), InMemoryTeacher(torch.zeros(2, 3)), None):
        check_separate(teacher, student)
