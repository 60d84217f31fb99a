"""The hard term stands twice, in torch and in Triton: both, and every kernel that uses one, against torch's own."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from limbeck import SparseTargets, distillation_loss, sparse_distillation_loss_parts
from limbeck.kernels import cross_entropy as kernel
from support.triton_device import DEVICE

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # the interpreter computes what `where` drops
N, V = 6, 37
LABELS = torch.tensor([0, 36, -100, 5, 5, 1])
ROWS = torch.rand(N, V, generator=torch.Generator().manual_seed(7), dtype=torch.float64).softmax(-1)
ROWS[2] = 0  # as LossCall has a row without a label


def draw(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torchs(eps, weight=None, labels=LABELS):
    leaf = draw(N, V).requires_grad_()
    rows = slice(None) if labels is LABELS else LABELS >= 0
    loss = F.cross_entropy(leaf[rows], labels[rows], weight=weight, label_smoothing=eps, reduction="sum")
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def cpu_kernel(leaf, **options):
    return distillation_loss(leaf, None, LABELS, alpha=0, backend="cpu", **options)


def triton_kernel(leaf, **options):
    pytest.importorskip("triton")
    return distillation_loss(leaf.to(DEVICE), None, LABELS.to(DEVICE), alpha=0, backend="triton", **options).cpu()


def sparse_kernel(leaf, **options):
    targets = SparseTargets.top_k(draw(N, V, seed=1), 4)
    return sparse_distillation_loss_parts(leaf, targets, LABELS, **options).hard


@pytest.mark.parametrize("kernel", [cpu_kernel, triton_kernel, sparse_kernel])
@pytest.mark.parametrize("eps", [0.0, 0.1, 1.0])
def test_every_kernel_has_torchs_cross_entropy(kernel, eps):
    leaf = draw(N, V).requires_grad_()
    loss = kernel(leaf, label_smoothing=eps, reduction="sum")
    for ours, theirs in zip((loss.detach(), torch.autograd.grad(loss, leaf)[0]), torchs(eps), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def of_shards(eps, weight, bounds, labels):
    """The value and the gradient from sums over shards of the vocabulary."""
    z, labelled = draw(N, V), LABELS >= 0
    call = dict(labelled=labelled, label_smoothing=eps, has_label_rows=labels is not LABELS)
    shards = [(slice(a, b), a) for a, b in pairwise(bounds)]

    def on(columns):
        here = labels.clamp(min=0) if labels is LABELS else labels[:, columns]
        return SimpleNamespace(**call, labels=here, class_weights=None if weight is None else weight[columns])

    sums = sum(kernel.cross_entropy_sums(z[:, columns], on(columns), offset) for columns, offset in shards)
    value = kernel.cross_entropy_from_sums(sums, z.logsumexp(-1), on(slice(None)))
    gradient, e = torch.zeros(N, V, dtype=torch.float64), z.exp()
    for columns, offset in shards:
        out, total = gradient[:, columns], e.sum(-1, keepdim=True)
        kernel.add_cross_entropy_gradient(out, e[:, columns], total, z[:, columns], sums, on(columns), 1.0, offset)
    return value.sum(), gradient


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("labels", [LABELS, ROWS], ids=["integers", "rows"])
def test_sums_over_shards(weighted, eps, labels):
    weight = torch.linspace(0.1, 2, V, dtype=torch.float64) if weighted else None
    for bounds in ((0, V), (0, 9, 10, V)):
        for ours, theirs in zip(of_shards(eps, weight, bounds, labels), torchs(eps, weight, labels), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize("labels", [LABELS.clamp(min=0).unsqueeze(-1), ROWS], ids=["integers", "rows"])
def test_the_short_way_for_finite_logits_is_the_same(eps, labels):
    z, has_rows = draw(N, V), labels is ROWS
    call = SimpleNamespace(
        labels=labels if has_rows else labels.squeeze(-1), labelled=None, label_smoothing=eps, class_weights=None,
        has_label_rows=has_rows,
    )  # fmt: skip
    log_sum = z.logsumexp(-1)
    short = kernel.cross_entropy_of_finite(z, labels, log_sum.unsqueeze(-1), eps)
    general = kernel.cross_entropy_from_sums(kernel.cross_entropy_sums(z, call), log_sum, call)
    torch.testing.assert_close(short, general, rtol=1e-12, atol=0)


def test_an_absent_class_gets_no_smoothing():
    z = draw(N, V)
    z[:, 7] = -math.inf
    present = torch.arange(V) != 7
    labels = torch.where(LABELS > 7, LABELS - 1, LABELS)
    expected = F.cross_entropy(z[:, present], labels, label_smoothing=0.2)
    for backend in ("cpu", "reference"):
        loss = distillation_loss(z, None, LABELS, alpha=0, label_smoothing=0.2, backend=backend)
        torch.testing.assert_close(loss, expected)
