import torch
from torch import nn

from limbeck.teachers import LiveTeacher, RememberedTeacher, Teacher


def test_a_live_teacher_gives_what_its_model_gives_and_no_graph():
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


def test_a_remembered_teacher_looks_up_by_example():
    logits = torch.randn(6, 3)
    teacher = RememberedTeacher(logits).to(torch.device("cpu"))
    assert torch.equal(teacher({"example_id": torch.tensor([4, 0, 4])}).logits, logits[[4, 0, 4]])
    assert isinstance(teacher, Teacher)
