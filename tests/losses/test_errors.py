"""Every wrong input ends in an error that names the argument, what was given and the remedy."""

import math

import pytest
import torch

from limbeck import DistillationLoss, distillation_loss, logit_mse_loss
from limbeck.errors import ArgumentError
from limbeck.losses import CollapsedTeacherWarning

S, T, Y = torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([0, 1])

WRONG = {
    "no tensor": (dict(student_logits=[1.0]), TypeError, r"student_logits: .*list.*\.logits"),
    "integers": (dict(teacher_logits=torch.ones(2, 3).long()), TypeError, "teacher_logits: .*floating.*int64"),
    "no teacher": (dict(teacher_logits=None), TypeError, "teacher_logits"),
    "scalar": (dict(student_logits=torch.tensor(1.0)), ValueError, r"student_logits: .*\(\.\.\., V\)"),
    "padding": (dict(teacher_logits=torch.ones(2, 5)), ValueError, r"5 classes.*3.*teacher_logits\[\.\.\., :3\].*-inf"),
    "rows": (dict(teacher_logits=torch.ones(4, 3)), ValueError, r"teacher_logits: shape \(4, 3\).*\(2, 3\)"),
    "no labels": (dict(labels=None, alpha=0.5), ValueError, "labels: needed.*alpha = 0.5.*alpha=1"),
    "float labels": (dict(labels=torch.zeros(2)), TypeError, "labels: .*integers.*float32"),
    "labels' shape": (dict(labels=torch.zeros(2, 3).long()), ValueError, r"labels: .*\(2,\).*got \(2, 3\)"),
    "labels' range": (dict(labels=torch.tensor([0, 3])), ValueError, "labels: 3 is out of range for 3 classes.*0 to 2"),
    "negative label": (dict(labels=torch.tensor([0, -1])), ValueError, "labels: -1 .*ignore_index = -100"),
    "T = 0": (dict(temperature=0), ValueError, "temperature: .*positive.*got 0"),
    "T < 0": (dict(temperature=-2.0), ValueError, "temperature: .*got -2.0"),
    "T infinite": (dict(temperature=float("inf")), ValueError, "temperature: .*finite"),
    "T a word": (dict(temperature="4"), TypeError, "temperature: .*'4'"),
    "T a triple": (dict(temperature=(1.0, 2.0, 3.0)), ValueError, r"temperature: .*\(T_teacher, T_student\).*3"),
    "T per class": (dict(temperature=torch.ones(2, 3)), ValueError, r"temperature: .*\(2,\).*\(2, 3\)"),
    "a T below 0": (dict(temperature=torch.tensor([1.0, -1.0])), ValueError, "temperature: every T"),
    "alpha": (dict(alpha=1.5), ValueError, r"alpha: .*\[0, 1\].*1.5"),
    "alpha a word": (dict(alpha="half"), TypeError, "alpha: .*'half'"),
    "divergence": (dict(divergence="kl"), ValueError, r"divergence: expected one of forward_kl.*logit_mse, got 'kl'"),
    "divergence's type": (dict(divergence=3), TypeError, "divergence: .*int"),
    "beta": (dict(divergence="jsd", beta=1.1), ValueError, r"beta: .*\[0, 1\].*1.1"),
    "skew": (dict(divergence="skew_kl", skew=1.0), ValueError, r"skew: .*\[0, 1\).*1.0"),
    "compensate": (dict(compensate="yes"), ValueError, "compensate: .*'curvature'.*'yes'"),
    "compensate = 1": (dict(compensate=1), ValueError, "compensate: .*True"),
    "smoothing": (dict(label_smoothing=-0.1), ValueError, "label_smoothing: .*-0.1"),
    "mask's type": (dict(mask=torch.ones(2)), TypeError, r"mask: .*bool.*float32.*mask\.bool\(\)"),
    "mask's shape": (dict(mask=torch.ones(3).bool()), ValueError, r"mask: .*\(2,\).*\(3,\)"),
    "weight": (dict(weight=torch.ones(2)), ValueError, r"weight: .*\(3,\).*\(2,\)"),
    "reduction": (dict(reduction="batchmean"), ValueError, "reduction: .*'mean'.*'batchmean'"),
    "num_items": (dict(num_items=-1), ValueError, "num_items: .*-1"),
    "num_items and sum": (dict(num_items=2, reduction="sum"), ValueError, "num_items: .*denominator.*'sum'"),
    "num_items' shape": (dict(num_items=torch.ones(2)), ValueError, r"num_items: one|num_items: .*\(2,\)"),
    "backend": (dict(backend="cuda"), ValueError, "backend: .*'auto'.*'cuda'"),
}


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input(wrong, error, message):
    arguments = {"student_logits": S, "teacher_logits": T, "labels": Y} | wrong
    with pytest.raises(error, match=message):
        distillation_loss(**arguments)


def test_logit_mse_checks_too():
    with pytest.raises(ValueError, match=r"4 classes.*have 3"):
        logit_mse_loss(torch.zeros(2, 3), torch.zeros(2, 4))


class TestObjective:
    def test_wrong_settings_are_known_at_construction(self):
        with pytest.raises(ValueError, match="temperature"):
            DistillationLoss(temperature=-1.0)
        with pytest.raises(ValueError, match="alpha"):
            DistillationLoss(alpha=2.0)
        with pytest.raises(ValueError, match="divergence"):
            DistillationLoss(divergence="kl")

    def test_a_teacher_with_nan_is_refused_at_first_sight(self):
        teacher = T.clone()
        teacher[1, 2] = float("nan")
        with pytest.raises(ValueError, match="teacher_logits: NaN in 1 of 2 rows"):
            DistillationLoss()(S, teacher, Y)

    def test_nan_in_a_position_that_does_not_count_is_none(self):
        teacher = T.clone()
        teacher[1] = float("nan")
        assert DistillationLoss()(S, teacher, torch.tensor([0, -100])).isfinite()

    def test_a_collapsed_teacher_is_a_warning_with_the_number_once(self, recwarn):
        objective = DistillationLoss(temperature=1.0)
        teacher = torch.tensor([[20.0, 0.0, 0.0], [0.0, 20.0, 0.0]])
        with pytest.warns(CollapsedTeacherWarning, match=r"At T = 1 .*100\.0000%.*higher temperature"):
            objective(S, teacher, Y)
        objective(S, teacher, Y)
        assert len(recwarn) == 0

    def test_the_same_teacher_is_soft_at_a_higher_temperature(self, recwarn):
        DistillationLoss(temperature=8.0)(S, torch.tensor([[20.0, 0.0, 0.0], [0.0, 20.0, 0.0]]), Y)
        assert len(recwarn) == 0

    def test_it_says_what_the_function_says(self):
        s, t = torch.randn(2, 3), torch.randn(2, 3)
        settings = dict(
            temperature=2.0, alpha=0.3, divergence="jsd", beta=0.2, compensate="curvature", label_smoothing=0.1
        )
        torch.testing.assert_close(DistillationLoss(**settings)(s, t, Y), distillation_loss(s, t, Y, **settings))

    def test_class_weights_move_with_the_module_and_stay_out_of_its_state(self):
        objective = DistillationLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
        assert objective.to(torch.float64).weight.dtype == torch.float64
        assert objective.state_dict() == {}


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf], ids=str)
def test_a_class_weight_that_cannot_be(wrong):
    weight = torch.tensor([1.0, wrong, 1.0])
    with pytest.raises(ArgumentError, match=r"^weight: expected numbers >= 0, got .* for class 1"):
        distillation_loss(S, T, Y, weight=weight)
    with pytest.raises(ArgumentError, match=r"^weight: expected numbers >= 0"):
        DistillationLoss(weight=weight)
    assert distillation_loss(S, T, Y, weight=torch.tensor([1, 0, 2])).isfinite()
