"""The look at a teacher's first rows: probabilities are no logits, whatever their number, sharpness and dtype."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck import CollapsedTeacherWarning, DistillationLoss
from limbeck.errors import ArgumentError
from limbeck.losses import inspection
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


class LargestResult(TorchDispatchMode):
    """Notes the most memory that one result takes beside the memory of a tensor."""

    def __init__(self, beside):
        super().__init__()
        self.beside, self.bytes = beside.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for x in results if isinstance(results, tuple | list) else (results,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() != self.beside:
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return results


@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
def test_it_costs_less_than_a_byte_for_each_logit(draw, monkeypatch):
    monkeypatch.setattr(inspection, "CHUNK_ELEMENTS", 1 << 11)
    teacher, mask = draw(4, 65, 200), torch.ones(4, 64, dtype=torch.bool)
    with LargestResult(teacher) as largest:
        inspect_teacher(teacher[:, :-1], torch.full((4, 64), 8.0), mask)
    assert 0 < largest.bytes < teacher.numel() / 2


def test_a_batch_in_which_nothing_counts_is_not_the_last_one_looked_at():
    objective, teacher = DistillationLoss(), torch.eye(3)
    objective(torch.zeros(3, 3), teacher, torch.full((3,), -100))
    with pytest.raises(ArgumentError, match="probabilities"):
        objective(torch.zeros(3, 3), teacher, torch.zeros(3, dtype=torch.long))


def test_a_compiled_module_is_one_graph():
    """Nothing may read values while it compiles; outside of it the next call looks."""
    objective = DistillationLoss(alpha=1.0)
    compiled = torch.compile(objective, fullgraph=True, backend="eager")
    compiled(torch.zeros(2, 3), torch.eye(3)[:2])
    with pytest.raises(ArgumentError, match="probabilities"):
        objective(torch.zeros(2, 3), torch.eye(3)[:2])


def test_of_many_rows_some_are_softened(recwarn, monkeypatch):
    monkeypatch.setattr(inspection, "LOOKED_AT", 3)
    teacher = torch.tensor([[0.0, 0.0, 0.0], [90.0, 0.0, 0.0]]).repeat(4, 1)
    inspect_teacher(teacher, 1.0, None)  # every third of eight rows
    assert len(recwarn) == 0
    with pytest.warns(CollapsedTeacherWarning):
        inspect_teacher(teacher, 1.0, torch.arange(8) % 2 == 1)
