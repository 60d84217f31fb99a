"""Logits whose sequences do not follow each other in memory give what their contiguous copies give, without being copied."""

import pytest
import torch
from torch import distributed as dist

from limbeck import SparseTargets, distillation_loss, sparse_distillation_loss
from limbeck.kernels.sequences import as_rows, by_sequences
from support.triton_device import DEVICE

B, L, V = 3, 5, 7
LABELS = torch.tensor([[0, 3, -100, 6], [1, -100, -100, 2], [5, 5, 0, -100]])
LAYOUTS = {
    "without the last position": lambda: draw(B, L, V)[:, :-1],
    "without the first": lambda: draw(B, L, V)[:, 1:],
    "every second position": lambda: draw(B, 2 * L - 1, V)[:, 1::2],
    "sequences side by side": lambda: draw(L - 1, B, V).transpose(0, 1),
    "cut classes": lambda: draw(B, L, V + 2)[:, :-1, :V],
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def draw(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_and_gradient(student, teacher, loss=distillation_loss, **options):
    student = student.detach().requires_grad_()
    value = loss(student, teacher, LABELS.to(student.device), temperature=2.0, **options)
    upstream = torch.arange(1, value.numel() + 1).view_as(value).to(value)
    return value.detach().cpu(), torch.autograd.grad(value, student, upstream)[0].cpu()


def agrees_with_a_copy(student, inplace, **options):
    teacher = draw(B, L - 1, V, seed=1).to(student.device)
    expected = loss_and_gradient(student.contiguous(), teacher, **options)
    torch.testing.assert_close(loss_and_gradient(student, teacher, inplace=inplace, **options), expected)


@every_layout
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(("backend", "inplace"), [("cpu", False), ("auto", True), ("reference", False)])
def test_a_cpu_computes_them(layout, reduction, backend, inplace):
    agrees_with_a_copy(LAYOUTS[layout](), inplace, reduction=reduction, backend=backend)


@pytest.mark.parametrize(
    ("layout", "inplace"), [("without the last position", False), ("sequences side by side", True)]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")
def test_triton_computes_them(layout, inplace):
    pytest.importorskip("triton")
    agrees_with_a_copy(LAYOUTS[layout]().to(DEVICE), inplace, reduction="none", backend="triton")


@every_layout
def test_neither_model_is_copied(layout):
    student = LAYOUTS[layout]()
    for pair in ((student, draw(B, L - 1, V)), (draw(B, L - 1, V), student), (student, student)):
        rows = as_rows(*pair)
        assert [x.data_ptr() for x in rows] == [x.data_ptr() for x in pair]
        assert [x.shape for x in rows] == [(B, L - 1, V)] * 2


def test_what_is_a_matrix_of_rows_stays_one():
    for logits in (draw(B, L, V), draw(B, L, V + 2)[..., :V], draw(1, L, V)[:, :-1], draw(V)):
        (rows, _) = as_rows(logits, logits)
        assert rows.dim() == 2
        assert rows.data_ptr() == logits.data_ptr()


def test_more_leading_dimensions():
    logits = draw(2, B, L, V)[:, :, :-1]
    student, teacher = as_rows(logits, logits.contiguous())
    assert student.shape == teacher.shape == (2 * B, L - 1, V)
    assert student.data_ptr() == logits.data_ptr()


def test_rows_that_share_memory_are_copied():
    """Otherwise a gradient that takes their place would be written over itself."""
    shared = draw(1, L, V).expand(B, L, V)
    student, _ = as_rows(shared, None)
    assert student.shape == (B * L, V)


@every_layout
@pytest.mark.parametrize("at_once", [1, 2 * (L - 1) * V, 1 << 20])
@pytest.mark.parametrize("in_place", [False, True])
def test_some_sequences_at_a_time(layout, at_once, in_place):
    """The kernel gets matrices of rows, and what it writes arrives where it belongs."""

    def double(student, teacher, call, scales, gradient):
        soft, hard = student.sum(-1), (student * teacher).sum(-1)
        gradient.copy_(2 * student)
        return soft * scales[0], hard

    class Call:
        dtype = torch.float64

        def part(self, rows):
            return self

    student, teacher, scale = LAYOUTS[layout](), draw(B, L - 1, V, seed=1), torch.arange(B * (L - 1))
    copy, gradient = student.contiguous(), student if in_place else torch.empty_like(student)
    soft, hard = by_sequences(at_once)(double)(student, teacher, Call(), (scale, 1.0), gradient)
    torch.testing.assert_close(soft, copy.sum(-1).flatten() * scale)
    torch.testing.assert_close(hard, (copy * teacher).sum(-1).flatten())
    torch.testing.assert_close(gradient, 2 * copy)


@every_layout
def test_sparse_targets(layout):
    targets = SparseTargets.top_k(draw(B, L - 1, V, seed=1), 3, temperatures=[2.0])
    student = LAYOUTS[layout]()
    expected = loss_and_gradient(student.contiguous(), targets, sparse_distillation_loss)
    torch.testing.assert_close(loss_and_gradient(student, targets, sparse_distillation_loss), expected)


@pytest.mark.parametrize("inplace", [False, True])
def test_one_shard(inplace, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        student, teacher = draw(B, L, V)[:, :-1], draw(B, L - 1, V, seed=1)
        expected = loss_and_gradient(student.contiguous(), teacher)
        got = loss_and_gradient(student, teacher, group=dist.group.WORLD, inplace=inplace)
        torch.testing.assert_close(got, expected)
    finally:
        dist.destroy_process_group()
