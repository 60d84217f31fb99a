"""The loss of outputs that are numbers, against its formula in numpy's float64 and against torch's own losses."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from limbeck.losses import (
    FAMILIES,
    DistanceLoss,
    EmbeddingLoss,
    SparseTargets,
    distance_distillation_loss,
    distance_distillation_loss_parts,
)

NAN = float("nan")


@pytest.fixture(autouse=True)
def backend():
    """There is one way to compute this loss: no test runs twice."""


def batch(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]


@pytest.mark.parametrize("distance", ["mse", "cosine"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_formula_in_float64(distance, alpha):
    student, teacher, labels = batch(6, 4)
    labels[2, 1], labels[5] = NAN, NAN
    s, t, y = (x.numpy() for x in (student, teacher, labels))
    if distance == "mse":
        soft = ((s - t) ** 2).mean(1)
    else:
        soft = 1 - (s * t).sum(1) / np.linalg.norm(s, axis=1) / np.linalg.norm(t, axis=1)
    hard = np.where(np.isnan(y).any(1), 0.0, ((s - y) ** 2).mean(1))
    wanted = alpha * soft + (1 - alpha) * hard
    settings = {"distance": distance, "alpha": alpha}
    assert distance_distillation_loss(student, teacher, labels, **settings, reduction="none").numpy() == pytest.approx(
        wanted, abs=1e-12
    )
    assert distance_distillation_loss(student, teacher, labels, **settings).item() == pytest.approx(wanted.mean())
    total, soft_term, hard_term = distance_distillation_loss_parts(
        student, teacher, labels, **settings, reduction="sum"
    )
    assert (total.item(), soft_term.item(), hard_term.item()) == pytest.approx((wanted.sum(), soft.sum(), hard.sum()))
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: distance_distillation_loss(s, teacher, labels, **settings), student)


def test_it_is_the_loss_of_torch():
    student, teacher, labels = batch(5, 3, dtype=torch.float32)
    soft, hard = (
        distance_distillation_loss(student, teacher, alpha=1.0),
        distance_distillation_loss(student, None, labels, alpha=0.0),
    )
    assert soft.item() == pytest.approx(F.mse_loss(student, teacher).item())
    assert hard.item() == pytest.approx(F.mse_loss(student, labels).item())
    ones = torch.ones(5)
    cosine = distance_distillation_loss(student, teacher, alpha=1.0, distance="cosine")
    assert cosine.item() == pytest.approx(F.cosine_embedding_loss(student, teacher, ones).item())


@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_what_does_not_count_reaches_nothing(distance):
    """NaN and infinity at a position outside of the mask change neither the loss nor the gradient."""
    student, teacher, labels = batch(3, 2, 4)
    mask = torch.tensor([[True, False], [True, True], [False, True]])
    clean = [x[mask].requires_grad_() for x in (student, teacher, labels)]
    wanted = distance_distillation_loss(*clean, distance=distance, alpha=0.4)
    wanted.backward()
    for x, value in ((student, torch.inf), (teacher, NAN), (labels, NAN)):
        x[~mask] = value
    student.requires_grad_(), teacher.requires_grad_()
    found = distance_distillation_loss(student, teacher, labels, distance=distance, alpha=0.4, mask=mask)
    found.backward()
    assert found.item() == pytest.approx(wanted.item())
    assert torch.allclose(student.grad[mask], clean[0].grad)
    assert not student.grad[~mask].any()
    assert teacher.grad is None
    parts = [
        distance_distillation_loss(x, t, y, distance=distance, alpha=0.4, mask=m, num_items=4)
        for x, t, y, m in zip(student, teacher, labels, mask, strict=True)
    ]
    assert sum(parts).item() == pytest.approx(wanted.item())
    nothing = distance_distillation_loss(student, teacher, labels, distance=distance, mask=torch.zeros_like(mask))
    assert nothing.item() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2)),
            r"labels: expected .* \(2, 1\), got \(2,\).*unsqueeze",
        ),
        ((torch.zeros(2, 3), torch.zeros(2, 4)), r"teacher_outputs: shape \(2, 4\), but .* \(2, 3\).*Linear"),
        ((torch.zeros(2, 3), None), "teacher_outputs: expected a floating-point tensor"),
        ((torch.zeros(2, 3).long(), torch.zeros(2, 3)), "student_outputs: .*int64"),
        ((torch.zeros(2, 3), torch.zeros(2, 3)), "labels: needed for the hard term when alpha = 0.9"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        distance_distillation_loss(*arguments)


def test_the_cosine_of_one_number_is_refused():
    with pytest.raises(ValueError, match="distance: the cosine of single numbers is their sign"):
        distance_distillation_loss(torch.ones(2, 1), torch.ones(2, 1), alpha=1.0, distance="cosine")


class TestModule:
    def test_it_has_the_settings_of_the_function(self):
        student, teacher, labels = batch(4, 3)
        mask = torch.tensor([True, True, False, True])
        module = DistanceLoss(alpha=0.3, distance="cosine")
        wanted = distance_distillation_loss(student, teacher, labels, alpha=0.3, distance="cosine", mask=mask)
        assert module(student, teacher, labels, mask=mask) == wanted
        assert module.parts(student, teacher, labels, mask=mask).total == wanted

    def test_embeddings_have_no_hard_term(self):
        student, teacher, _ = batch(4, 3)
        assert EmbeddingLoss()(student, teacher) == EmbeddingLoss(alpha=1)(student, teacher)
        assert EmbeddingLoss()(student, teacher).item() == pytest.approx(F.mse_loss(student, teacher).item())
        with pytest.raises(ValueError, match=r"alpha: embeddings have no labels.* got 0.5"):
            EmbeddingLoss(alpha=0.5)

    @pytest.mark.parametrize("family", ["distance", "embedding"])
    @pytest.mark.parametrize(
        "wrong",
        [
            {"temperature": 2.0},
            {"temperature": (4.0, 4.0)},
            {"temperature": torch.tensor(4.0)},
            {"divergence": "reverse_kl"},
            {"compensate": False},
            {"label_smoothing": 0.1},
            {"weight": torch.ones(2)},
            {"distance": "l1"},
        ],
    )
    def test_what_belongs_to_a_softmax_is_refused(self, family, wrong):
        with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}: "):
            FAMILIES[family](**wrong)

    def test_a_teacher_without_numbers_is_refused(self):
        student, teacher, labels = batch(4, 3)
        with pytest.raises(ValueError, match="sparse targets"):
            DistanceLoss()(student, SparseTargets.top_k(teacher, 2), labels)
        with pytest.raises(ValueError, match="teacher_outputs: NaN"):
            DistanceLoss()(student, teacher * NAN, labels)
        with pytest.raises(ValueError, match="temperature: these outputs are numbers"):
            DistanceLoss().parts(student, teacher, labels, temperature=2.0)
