import torch

from limbeck.teachers import InMemoryTeacher, Teacher


def test_an_in_memory_teacher_looks_up_by_example():
    logits = torch.randn(6, 3)
    teacher = InMemoryTeacher(logits).to(torch.device("cpu"))
    assert torch.equal(teacher({"example_id": torch.tensor([4, 0, 4])}).logits, logits[[4, 0, 4]])
    assert isinstance(teacher, Teacher)
    assert teacher.single_view
