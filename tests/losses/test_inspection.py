"""The look at a teacher's first rows: probabilities are no logits, whatever their number, sharpness and dtype."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck import DistillationLoss
from limbeck.errors import ArgumentError
from limbeck.losses.inspection import inspect_teacher

probabilities = st.builds(
    lambda rows, classes, scale, seed, dtype: (
        (scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))).to(dtype).softmax(-1)
    ),
    rows=st.integers(1, 5),
    classes=st.integers(2, 300),
    scale=st.sampled_from((0.0, 1.0, 10.0, 1000.0)),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from((torch.float64, torch.float32, torch.float16, torch.bfloat16)),
)


@given(teacher=probabilities, rounded=st.booleans())
def test_probabilities_are_refused_with_the_remedy(teacher, rounded):
    teacher = teacher.bfloat16().float() if rounded else teacher
    with pytest.raises(ArgumentError, match=r"teacher_logits: every row .* probabilities.*teacher\.log\(\)"):
        inspect_teacher(teacher, 2.0, None)


@pytest.mark.filterwarnings("ignore::limbeck.CollapsedTeacherWarning")
@given(teacher=probabilities)
def test_their_logarithm_is_taken(teacher):
    objective = DistillationLoss(temperature=1.0, alpha=1.0)
    assert objective(teacher.double().log(), teacher.double().log()).abs() < 1e-12


def test_one_hot_rows_are_probabilities():
    with pytest.raises(ArgumentError, match="probabilities"):
        DistillationLoss(alpha=1.0)(torch.zeros(2, 3), torch.eye(3)[:2])


def test_only_the_positions_that_count_are_looked_at():
    student, teacher, labels = (
        torch.zeros(2, 3),
        torch.tensor([[0.2, 0.3, 0.5], [5.0, 1.0, 2.0]]),
        torch.tensor([0, -100]),
    )
    with pytest.raises(ArgumentError, match="probabilities"):
        DistillationLoss()(student, teacher, labels)
    DistillationLoss()(student, teacher, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "teacher",
    [
        torch.tensor([[0.5, 0.4, 0.3], [0.2, 0.3, 0.5]]),
        torch.tensor([[-0.1, 0.6, 0.5]]),
        torch.tensor([[1.5, -0.5]]),
        torch.zeros(2, 3),
        torch.ones(2, 3),
        torch.ones(2, 1),
        torch.zeros(0, 3),
    ],
    ids=str,
)
def test_logits_that_are_near_it_are_logits(teacher):
    inspect_teacher(teacher, 8.0, None)


def test_a_shard_shows_no_sums():
    inspect_teacher(torch.tensor([[0.5, 0.5]]), 8.0, None, sharded=True)
