"""Shards of the vocabulary on real processes (gloo) against the unsharded loss in float64."""

import math
import socket
from datetime import timedelta

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from cases import CASES
from limbeck import distillation_loss, linear_distillation_loss
from limbeck.losses.divergences import LogitMSE
from support.two_parameters import Blend

N, V = 6, 23
SHARDS = {2: (5, 18), 3: (9, 1, 13)}
LABELS = torch.tensor([0, 22, -100, 5, 9, 4])
ABSENT = 8
ROWS = torch.randn(N, V, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
ROWS[:, ABSENT] = -math.inf
ROWS = ROWS.softmax(-1)
ROWS[2] = -100
OPTIONS = {
    "plain": {},
    "soft only": dict(alpha=1.0),
    "hard only": dict(alpha=0.0),
    "smoothing": dict(label_smoothing=0.1),
    "weight": dict(weight=torch.linspace(0.1, 2, V, dtype=torch.float64), label_smoothing=0.2),
    "mask": dict(mask=torch.arange(N) % 3 > 0),
    "pair": dict(temperature=(4.0, 1.0)),
    "per position": dict(temperature=torch.linspace(0.5, 5, N, dtype=torch.float64)),
    "curvature": dict(compensate="curvature"),
    "none": dict(reduction="none"),
    "label rows": dict(labels="rows"),
    "label rows and weight": dict(
        labels="rows", label_smoothing=0.2, weight=torch.linspace(0.1, 2, V, dtype=torch.float64)
    ),
}
CALLS = [(case, {}) for case in CASES] + [(CASES[0], options) for options in OPTIONS.values()]
CALLS += [(CASES[2], options) for options in OPTIONS.values()]
CALLS += [(CASES[0], dict(divergence=chosen)) for chosen in (Blend(0.3, 0.2), LogitMSE(center=False))]


class OwnValue(LogitMSE):
    """Twice as much, which cannot be added up from terms."""

    def value(self, a, b, present):
        return 2 * super().value(a, b, present)


def draw(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits():
    student, teacher = draw(N, V), draw(N, V, seed=1)
    student[:, ABSENT] = teacher[:, ABSENT] = -math.inf  # padding of both vocabularies, in the middle
    student[2] = math.nan  # a position that does not count in most calls
    return student, teacher


def settings(case, options, columns=slice(None)):
    given = dict(temperature=2.0, alpha=0.3, divergence=case.name, **case.options) | options
    if "weight" in given:
        given["weight"] = given["weight"][columns]
    return given


def dense(columns=slice(None), group=None):
    """The loss and the gradient of the columns, for every call."""
    results = []
    for case, options in CALLS:
        student, teacher = logits()
        given = settings(case, options, columns)
        labels = None if given["alpha"] == 1 else LABELS
        if given.pop("labels", None):
            labels = ROWS[:, columns]
        if labels is None or "mask" in given:
            student[2] = teacher[2] + 1
        leaf = student[:, columns].clone().requires_grad_()
        loss = distillation_loss(leaf, teacher[:, columns], labels, group=group, **given)
        loss.sum().backward()
        results.append((loss.detach(), leaf.grad))
    return results


def fused(rows=slice(None), group=None):
    hidden, weight = draw(N, 4).requires_grad_(), draw(V, 4, seed=2)[rows].clone().requires_grad_()
    loss = linear_distillation_loss(
        hidden, weight, draw(N, 5, seed=3), draw(V, 5, seed=4)[rows], LABELS, chunk=4, group=group, temperature=2.0
    )
    loss.backward()
    return loss.detach(), hidden.grad, weight.grad


def _work(rank, world, port, results):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    start = sum(SHARDS[world][:rank])
    columns = slice(start, start + SHARDS[world][rank])
    called = []
    reduce = dist.all_reduce
    dist.all_reduce = lambda *args, **kwargs: called.append(1) or reduce(*args, **kwargs)
    given = dict(group=dist.group.WORLD, alpha=0.5)
    counts = {}
    for name in ("forward_kl", "reverse_kl", "jsd"):
        called.clear()
        leaf = draw(N, V)[:, columns].requires_grad_()
        distillation_loss(leaf, draw(N, V, seed=1)[:, columns], LABELS, divergence=name, **given).backward()
        counts[name] = len(called)
    errors = []
    wrong = (
        (torch.full((N,), V), {}), (LABELS, dict(backend="cpu")), (LABELS, dict(divergence=OwnValue())),
        (draw(N, V)[:, columns].abs(), {}), (ROWS[:, columns].clone().requires_grad_(), {}),
    )  # fmt: skip
    for labels, options in wrong:
        try:
            distillation_loss(draw(N, V)[:, columns], draw(N, V)[:, columns], labels, **given, **options)
        except ValueError as error:
            errors.append(str(error))
    results[rank] = dense(columns, dist.group.WORLD), fused(columns, dist.group.WORLD), counts, errors
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=SHARDS, ids=["two", "three"])
def shards(request):
    """What every process got."""
    world = request.param
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with multiprocessing.get_context("spawn").Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_work, args=(world, port, results), nprocs=world)
        return [results[rank] for rank in range(world)]


@pytest.mark.parametrize("index", range(len(CALLS)), ids=lambda i: f"{CALLS[i][0]}-{'-'.join(CALLS[i][1])}")
def test_the_loss_and_the_gradient_are_those_of_the_whole(shards, index):
    loss, gradient = dense()[index]
    for results, *_ in shards:
        torch.testing.assert_close(results[index][0], loss, rtol=1e-10, atol=1e-12)
    together = torch.cat([results[index][1] for results, *_ in shards], -1)
    torch.testing.assert_close(together, gradient, rtol=1e-10, atol=1e-12)


def test_the_fused_projection(shards):
    loss, hidden, weight = fused()
    for _, (got, of_hidden, _), *_ in shards:
        torch.testing.assert_close(got, loss, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(of_hidden, hidden, rtol=1e-10, atol=1e-12)
    together = torch.cat([of_weight for _, (_, _, of_weight), *_ in shards])
    torch.testing.assert_close(together, weight, rtol=1e-10, atol=1e-12)


def test_two_collectives_for_the_kls_and_three_for_others(shards):
    for *_, counts, _ in shards:
        assert counts == {"forward_kl": 2, "reverse_kl": 2, "jsd": 3}


def test_errors(shards):
    for *_, (out_of_range, backend, own_value, no_rows, with_gradient) in shards:
        assert "labels: 23 is out of range for 23 classes on all processes" in out_of_range
        assert "'cpu' knows no shards" in backend
        assert "divergence: OwnValue has a value of its own" in own_value
        assert "labels: a row sums to" in no_rows
        assert "labels: it asks for gradient" in with_gradient


def test_a_group_is_asked_for():
    with pytest.raises(TypeError, match=r"group: expected a torch\.distributed process group"):
        distillation_loss(draw(N, V), draw(N, V), LABELS, group=3)
