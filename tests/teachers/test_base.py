import pytest
import torch
from torch import nn

from limbeck.teachers import Ensemble, InMemoryTeacher, LiveTeacher, Teacher


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
    teacher = InMemoryTeacher(logits).to(torch.device("cpu"))
    assert torch.equal(teacher({"example_id": torch.tensor([4, 0, 4])}).logits, logits[[4, 0, 4]])
    assert isinstance(teacher, Teacher)


class TestEnsemble:
    def teachers(self):
        torch.manual_seed(0)
        return [torch.nn.Linear(4, 5), *(LiveTeacher(torch.nn.Linear(4, 5)) for _ in range(2))]

    def test_probabilities_at_the_temperature(self):
        teachers, batch = self.teachers(), {"x": torch.randn(6, 4)}
        weights = [1.0, 2.0, 5.0]
        got = Ensemble(teachers, weights, temperature=3.0)(batch).logits
        average = sum(
            w / 8 * (t(batch).logits / 3).softmax(-1) for w, t in zip(weights, Ensemble(teachers).teachers, strict=True)
        )
        torch.testing.assert_close((got / 3).softmax(-1), average)

    def test_logits(self):
        teachers, batch = self.teachers(), {"x": torch.randn(6, 4)}
        got = Ensemble(teachers, average="logits")(batch).logits
        torch.testing.assert_close(got, sum(t(batch).logits for t in Ensemble(teachers).teachers) / 3)

    def test_one_is_itself(self):
        (teacher, *_), batch = self.teachers(), {"x": torch.randn(6, 4)}
        for average in ("logits", "probabilities"):
            got = Ensemble([teacher], average=average, temperature=2.0)(batch).logits
            torch.testing.assert_close(got.softmax(-1), teacher(batch["x"]).softmax(-1))

    def test_errors(self):
        for wrong in ([], [3]):
            with pytest.raises(TypeError, match="at least one Teacher"):
                Ensemble(wrong)
        for options, message in (
            (dict(weights=[1.0]), "weights: expected 3 positive numbers"),
            (dict(weights=[1.0, -1.0, 1.0]), "weights: expected 3 positive numbers"),
            (dict(average="votes"), "average: expected 'logits'"),
            (dict(temperature=0.0), "temperature: expected a positive number"),
        ):
            with pytest.raises(ValueError, match=message):
                Ensemble(self.teachers(), **options)
