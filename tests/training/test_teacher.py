"""How the trainer turns its ``teacher`` argument into a teacher, and which augmentation fits it."""

import pytest
import torch

from limbeck import DistillationArguments
from limbeck.teachers import Ensemble, InMemoryTeacher, LiveTeacher
from limbeck.training.teacher import choose_augmentation, resolve_teacher
from support.workbench import Net


def arguments(folder, **settings):
    return DistillationArguments(str(folder), use_cpu=True, **settings)


def test_without_a_teacher_alpha_must_be_zero(tmp_path):
    assert resolve_teacher(None, Net(), arguments(tmp_path, alpha=0.0)) is None
    with pytest.raises(ValueError, match=r"teacher: needed .* alpha = 0\.3"):
        resolve_teacher(None, Net(), arguments(tmp_path, alpha=0.3))


def test_a_module_is_converted_and_a_teacher_keeps_its_dtype(tmp_path):
    args = arguments(tmp_path, teacher_dtype="float16")
    module = resolve_teacher(Net(), Net(), args)
    assert isinstance(module, LiveTeacher)
    assert {parameter.dtype for parameter in module.model.parameters()} == {torch.float16}
    live = LiveTeacher(Net())
    assert resolve_teacher(live, Net(), args) is live
    assert {parameter.dtype for parameter in live.model.parameters()} == {torch.float32}


def test_a_student_as_its_own_teacher_is_refused_before_it_is_frozen(tmp_path):
    student = Net()
    with pytest.raises(ValueError, match="shares parameters"):
        resolve_teacher(student, student, arguments(tmp_path))
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize(
    "teacher", [InMemoryTeacher(torch.zeros(3, 4)), Ensemble([InMemoryTeacher(torch.zeros(3, 4))])]
)
def test_a_teacher_of_a_single_view_refuses_augmentation(teacher):
    assert choose_augmentation(None, teacher) is None
    with pytest.raises(ValueError, match="augment: this teacher was asked before about one view"):
        choose_augmentation(dict, teacher)


def test_any_augmentation_fits_a_live_teacher_or_no_teacher():
    assert choose_augmentation(dict, LiveTeacher(Net())) is dict
    assert choose_augmentation(dict, None) is dict
