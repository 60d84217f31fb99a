"""Sparse teachers: buckets against scipy, draws against their exact expectation, gradients against finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from cases import ON_PROBABILITIES
from limbeck import (
    DistillationLoss,
    SparseTargets,
    distillation_loss,
    sparse_distillation_loss,
    sparse_distillation_loss_parts,
    sparse_linear_distillation_loss,
)
from limbeck.kernels import sparse as kernel

N, V, K = 7, 23, 5
LABELS = torch.tensor([0, 22, -100, 5, 5, -100, 2])
every_divergence = pytest.mark.parametrize("case", ON_PROBABILITIES, ids=str)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setitem(kernel.CHUNK, "cpu", 3 * V)


def draw(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(student, targets, labels=None, upstream=None, loss=sparse_distillation_loss, **options):
    leaf = student.clone().requires_grad_()
    value = loss(leaf, targets, labels, **options)
    value.backward(torch.ones_like(value) if upstream is None else upstream)
    return value.detach(), leaf.grad


def bucketed(logits, ids, t):
    """Probabilities of the listed classes and of all others."""
    p = softmax(logits.numpy() / t)
    listed = p[ids.numpy()]
    return np.append(listed, np.delete(p, ids.numpy()).sum())


@every_divergence
@pytest.mark.parametrize("t", [0.5, 1.0, 2.0, 20.0])
def test_the_tail_is_one_bucket(case, t):
    student, teacher = draw(N, V), draw(N, V, seed=1)
    targets = SparseTargets.top_k(teacher, K, temperatures=[t])
    options = dict(alpha=1, temperature=t, divergence=case.name, reduction="none", **case.options)
    got = sparse_distillation_loss(student, targets, **options)
    rows = zip(student, teacher, targets.ids, strict=True)
    truth = [case.value(bucketed(z_t, ids, t), bucketed(z_s, ids, t)) * t**case.power for z_s, z_t, ids in rows]
    np.testing.assert_allclose(got.numpy(), truth, rtol=1e-9, atol=1e-12)
    dense = distillation_loss(student, teacher, **options)
    assert (got <= dense * (1 + 1e-9)).all()  # to merge classes loses information


@every_divergence
@pytest.mark.parametrize("t", [1.0, 2.0])
def test_the_rest_of_a_peaked_teacher_survives(case, t):
    """In float32, where 1 minus the listed probabilities would be 0 or rounding alone."""
    teacher = draw(64, V, seed=1, scale=20.0).float()
    student = (teacher / 2 + draw(64, V, scale=2.0)).float()
    targets = SparseTargets.top_k(teacher, K, temperatures=[t])
    options = dict(alpha=1, temperature=t, divergence=case.name, reduction="none", **case.options)
    got, gradient = run(student, targets, **options)
    assert gradient.isfinite().all()
    rows = zip(student.double(), teacher.double(), targets.ids, strict=True)
    truth = [case.value(bucketed(z_t, ids, t), bucketed(z_s, ids, t)) * t**case.power for z_s, z_t, ids in rows]
    np.testing.assert_allclose(got.numpy(), truth, rtol=1e-4, atol=1e-5)
    exact = SparseTargets.top_k(teacher.double(), K, temperatures=[t])
    expected = run(student.double(), exact, **options)[1]
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-3, atol=1e-5)


def test_a_list_that_was_changed_has_the_rest_of_what_is_left():
    targets = SparseTargets.top_k(draw(N, V, scale=1.0).float(), K)
    fewer = replace(targets, ids=targets.ids.clone())
    fewer.ids[:, 1:3] = -1
    for rest, p in (
        (targets.log_rest_at(1.0), targets.log_probs),
        (fewer.log_rest_at(1.0), targets.log_probs[:, [0, 3, 4]]),
    ):
        torch.testing.assert_close(rest.exp(), 1 - p.double().exp().sum(-1), rtol=1e-5, atol=0)


def test_targets_without_their_rest_subtract():
    student, targets = draw(N, V), SparseTargets.top_k(draw(N, V, seed=1), K)
    stored = SparseTargets(targets.ids, targets.log_probs)
    torch.testing.assert_close(run(student, stored, alpha=1), run(student, targets, alpha=1))


def test_the_rest_follows_its_positions_and_has_their_shape():
    targets = SparseTargets.top_k(draw(3, 4, V), K, temperatures=[2.0])
    first = targets.apply(lambda x: x[:, :-1])
    assert {t: tuple(x.shape) for t, x in first.log_rests.items()} == {1.0: (3, 3), 2.0: (3, 3)}
    with pytest.raises(
        ValueError, match=r"targets.log_rests\[1\]: expected one number per position, \(3, 3\), got \(3, 4\)"
    ):
        sparse_distillation_loss(draw(3, 3, V), replace(first, log_rests=targets.log_rests), alpha=1)


@every_divergence
def test_with_every_class_listed_it_is_the_dense_loss(case):
    student, teacher = draw(N, V), draw(N, V, seed=1)
    targets = SparseTargets.top_k(teacher, V, temperatures=[2.0])
    options = dict(temperature=2.0, alpha=0.3, divergence=case.name, label_smoothing=0.1, **case.options)
    leaf = student.clone().requires_grad_()
    dense = distillation_loss(leaf, teacher, LABELS, **options)
    dense.backward()
    for mode in ("tail", "renormalise"):
        loss, gradient = run(student, targets, LABELS, mode=mode, **options)
        torch.testing.assert_close(loss, dense.detach())
        torch.testing.assert_close(gradient, leaf.grad, rtol=1e-9, atol=1e-12)


OPTIONS = {
    "plain": dict(alpha=0.4),
    "T = 1": dict(alpha=0.4, temperature=1.0),
    "soft only": dict(alpha=1.0),
    "hard only": dict(alpha=0.0),
    "smoothing": dict(alpha=0.4, label_smoothing=0.1),
    "weight": dict(alpha=0.4, weight=torch.linspace(0.1, 2, 9, dtype=torch.float64), label_smoothing=0.2),
    "mask": dict(alpha=0.4, mask=torch.tensor([True, False, True, True])),
    "pair": dict(alpha=0.4, temperature=(2.0, 1.0)),
    "none": dict(alpha=0.4, reduction="none"),
    "curvature": dict(alpha=0.4, compensate="curvature"),
}


def check_gradient(mode, **options):
    teacher, student = draw(4, 9, seed=1), draw(4, 9).requires_grad_()
    labels = torch.tensor([0, 8, -100, 5])
    if mode == "sample":
        generator = torch.Generator().manual_seed(0)
        targets = SparseTargets.sample(teacher, 9, temperatures=[2.0], generator=generator)
    else:
        targets = SparseTargets.top_k(teacher, K, temperatures=[2.0])
        targets.ids[1, 3:] = targets.ids[3] = -1  # fewer, and none

    def loss(logits):
        return sparse_distillation_loss(
            logits, targets, labels, mode=mode, **dict(temperature=2.0, alpha=0.4) | options
        )

    assert torch.autograd.gradcheck(loss, student, eps=1e-6, atol=1e-6)


every_mode = pytest.mark.parametrize("mode", ["tail", "zero", "renormalise", "sample"])


@every_mode
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_gradients_with_every_option(mode, options):
    check_gradient(mode, **options)


@every_mode
@every_divergence
def test_gradients_of_every_divergence(mode, case):
    options = dict(divergence=case.name, **case.options)
    refused = (case.name == "reverse_kl" or case.options.get("beta") == 1) if mode == "zero" else False
    if refused or (mode == "sample" and not (case.name == "forward_kl" or 0 in case.options.values())):
        with pytest.raises(ValueError, match=r"divergence: (reverse KL is infinite|only forward KL)"):
            check_gradient(mode, **options)
    else:
        check_gradient(mode, **options)


def test_zero_pulls_the_tail_down():
    student, teacher = draw(N, V), draw(N, V, seed=1)
    targets = SparseTargets.top_k(teacher, K)
    _, gradient = run(student, targets, mode="zero", alpha=1, temperature=1.0, reduction="sum")
    p_t = torch.zeros(N, V, dtype=torch.float64).scatter(-1, targets.ids, targets.log_probs.exp())
    torch.testing.assert_close(gradient, p_t.sum(-1, keepdim=True) * student.softmax(-1) - p_t)


@every_divergence
def test_renormalise_is_the_dense_loss_of_the_listed_classes(case):
    student, teacher = draw(N, V), draw(N, V, seed=1)
    targets = SparseTargets.top_k(teacher, K)  # no normaliser is needed
    options = dict(alpha=1, temperature=3.0, divergence=case.name, **case.options)
    got = sparse_distillation_loss(student, targets, mode="renormalise", **options)
    dense = distillation_loss(student.gather(-1, targets.ids), teacher.gather(-1, targets.ids), **options)
    torch.testing.assert_close(got, dense)


@pytest.mark.parametrize("t", [1.0, 2.0])
@pytest.mark.parametrize("drawn_at", [1.0, 1.5])
def test_draws_are_unbiased(t, drawn_at):
    """The expectation over one draw, summed over all classes with the probability of each: KL and its gradient."""
    student, teacher = draw(1, V), draw(1, V, seed=1)
    log_probs = teacher.log_softmax(-1)
    normalizers = {x: torch.logsumexp(log_probs / x, -1).expand(V) for x in (1.5, 2.0)}
    ids = torch.arange(V).unsqueeze(-1)  # a row for each class that may be drawn
    targets = SparseTargets(ids, log_probs.T.contiguous(), normalizers, torch.ones_like(ids), drawn_at)
    options = dict(alpha=1, temperature=t)
    chance = (teacher / drawn_at).softmax(-1).squeeze(0)
    values, gradients = run(student.expand(V, V), targets, upstream=chance, reduction="none", **options)
    leaf = student.clone().requires_grad_()
    dense = distillation_loss(leaf, teacher, **options)
    dense.backward()
    torch.testing.assert_close((chance * values).sum(), dense.detach())
    torch.testing.assert_close(gradients.sum(0, keepdim=True), leaf.grad)


def test_draws_without_log_probabilities_have_the_same_gradient():
    targets = SparseTargets.sample(draw(N, V, seed=1), 12, generator=torch.Generator().manual_seed(0))
    bare = SparseTargets(targets.ids, None, counts=targets.counts)
    (known, gradient), (cross_entropy, same) = (run(draw(N, V), x, alpha=1) for x in (targets, bare))
    torch.testing.assert_close(gradient, same)
    assert cross_entropy > known
    with pytest.raises(ValueError, match="no log_probs"):
        sparse_distillation_loss(draw(N, V), bare, alpha=1, temperature=2.0)


def test_counts_are_repeated_draws():
    ids = torch.tensor([[4, 4, 4, 7]] * N)
    log_probs = draw(N, V, seed=1).log_softmax(-1)
    many = SparseTargets(ids, log_probs.gather(-1, ids), counts=torch.ones_like(ids))
    short = torch.tensor([[4, 7, -1]] * N)
    few = SparseTargets(short, log_probs.gather(-1, short.clamp(min=0)), counts=torch.tensor([[3, 1, 0]] * N))
    for one, other in zip(run(draw(N, V), many, LABELS), run(draw(N, V), few, LABELS), strict=True):
        torch.testing.assert_close(one, other)


def test_draws_come_from_the_teacher():
    teacher = draw(1, V, scale=1.0)
    targets = SparseTargets.sample(teacher, 200_000, temperature=2.0, generator=torch.Generator().manual_seed(0))
    frequencies = torch.bincount(targets.ids[0], minlength=V) / 200_000
    torch.testing.assert_close(frequencies.double(), (teacher / 2).softmax(-1)[0], rtol=0, atol=0.004)


@pytest.mark.parametrize("gap", [5.0, 30.0, 200.0])
def test_a_peaked_student_keeps_its_tail(gap):
    """1 - sum of what is listed has lost every digit here; the rest is summed by itself, and does not underflow."""
    student, teacher = draw(N, 1000, scale=1.0), draw(N, 1000, seed=1, scale=1.0)
    targets = SparseTargets.top_k(teacher, K)
    student.scatter_add_(-1, targets.ids, torch.full((N, K), gap, dtype=torch.float64))
    options = dict(alpha=1, temperature=1.0)
    truth = run(student, targets, **options)
    got = run(student.float(), targets, **options)
    torch.testing.assert_close(got[0].double(), truth[0], rtol=3e-6, atol=0)
    torch.testing.assert_close(got[1].double(), truth[1], rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("mode", ["tail", "renormalise"])
def test_the_fused_form_is_the_same(mode):
    hidden, weight, bias = draw(N, 4), draw(V, 4, seed=2, scale=1.0), draw(V, seed=3)
    targets = SparseTargets.top_k(draw(N, V, seed=1), K, temperatures=[2.0])
    gradients = []
    for fused in (True, False):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        x, w, b = leaves
        options = dict(temperature=2.0, alpha=0.6, mode=mode)
        if fused:
            loss = sparse_linear_distillation_loss(x, w, targets, LABELS, student_bias=b, chunk=2, **options)
        else:
            loss = sparse_distillation_loss(x @ w.T + b, targets, LABELS, **options)
        gradients.append([loss.detach(), *torch.autograd.grad(loss, leaves)])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_in_place_and_in_bfloat16():
    targets = SparseTargets.top_k(draw(N, V, seed=1), K)
    student = draw(N, V).bfloat16()
    _, gradient = run(student, targets, LABELS)
    logits = student.clone().requires_grad_() * torch.ones((), dtype=torch.bfloat16)
    logits.retain_grad()
    sparse_distillation_loss(logits, targets, LABELS, inplace=True).backward()
    assert torch.equal(logits.detach(), gradient)
    _, truth = run(student.double(), targets, LABELS)
    assert (gradient.double() - truth).norm() / truth.norm() < 4e-3


def test_positions_that_do_not_count_may_hold_anything():
    student, targets = draw(N, V), SparseTargets.top_k(draw(N, V, seed=1), K)
    loss, gradient = run(student, targets, LABELS)
    student[LABELS == -100] = math.nan
    targets.log_probs[LABELS == -100] = math.nan
    again, same = run(student, targets, LABELS)
    assert torch.equal(loss, again)
    assert torch.equal(gradient, same)
    nothing, zero = run(student, targets, torch.full((N,), -100))
    assert nothing == 0
    assert (zero == 0).all()


def test_parts():
    student, targets = draw(N, V), SparseTargets.top_k(draw(N, V, seed=1), K)
    parts = sparse_distillation_loss_parts(student, targets, LABELS, alpha=0.3)
    torch.testing.assert_close(parts.total, 0.3 * parts.soft + 0.7 * parts.hard)
    torch.testing.assert_close(parts.hard, distillation_loss(student, None, LABELS, alpha=0))


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (dict(temperature=2.0), ValueError, r"log-normaliser at T = 2 .*: 1, 3\).*temperatures=\[2\].*renormalise"),
            (dict(temperature=torch.ones(N)), TypeError, r"temperature: sparse targets take one number"),
            (dict(mode="dense"), ValueError, r"mode: expected one of 'tail'"),
            (dict(mode="sample"), ValueError, r"mode: 'sample' needs targets with counts"),
            (dict(divergence="logit_mse"), ValueError, r"divergence: 'logit_mse' compares dense logits"),
            (dict(targets=draw(N, V)), TypeError, r"targets: expected limbeck\.SparseTargets, got Tensor.*top_k"),
            (dict(targets=SparseTargets(torch.zeros(3, 2).long(), torch.zeros(3, 2))), ValueError, r"\(7, 'K'\).*got \(3, 2\)"),
            (dict(targets=SparseTargets(torch.full((N, 1), V), torch.zeros(N, 1))), ValueError, r"ids: 23 is out of range"),
            (dict(targets=SparseTargets(torch.zeros(N, 2).long(), torch.zeros(N, 2))), ValueError, r"listed twice"),
            (dict(targets=SparseTargets(torch.zeros(N, 1).long(), torch.zeros(N, 2))), ValueError, r"log_probs: .* shape"),
            (dict(targets=SparseTargets(torch.zeros(N, 1).long(), None)), ValueError, r"targets\.log_probs: needed"),
            (dict(labels=None), ValueError, r"labels: needed"),
        ],
    )  # fmt: skip
    def test_named(self, change, error, message):
        targets = SparseTargets.top_k(draw(N, V, seed=1), K, temperatures=[3.0])
        given = dict(student_logits=draw(N, V), targets=targets, labels=LABELS) | change
        with pytest.raises(error, match=message):
            sparse_distillation_loss(**given)

    def test_draws_are_for_forward_kl(self):
        targets = SparseTargets.sample(draw(N, V, seed=1), K)
        with pytest.raises(ValueError, match="only forward KL can be estimated"):
            sparse_distillation_loss(draw(N, V), targets, LABELS, divergence="jsd")
        with pytest.raises(ValueError, match="these targets are draws"):
            sparse_distillation_loss(draw(N, V), targets, LABELS, mode="tail")


MODES = [
    ("tail", "forward_kl"),
    ("tail", "jsd"),
    ("zero", "forward_kl"),
    ("renormalise", "tvd"),
    ("sample", "forward_kl"),
]


@pytest.mark.parametrize(("mode", "divergence"), MODES)
@pytest.mark.parametrize("where", ["ordinary", "padded", "every class", "absent"])
def test_the_kernel_is_the_reference(mode, divergence, where):
    teacher, student = draw(N, V, seed=1), draw(N, V)
    k = V if where == "every class" else K
    if mode == "sample":
        targets = SparseTargets.sample(teacher, 9, temperature=2.0, generator=torch.Generator().manual_seed(0))
    else:
        targets = SparseTargets.top_k(teacher, k, temperatures=[2.0])
        if where == "padded":
            targets.ids[1, 2:], targets.ids[2] = -1, -1
    if where == "absent":
        student[:, 20:] = student[3, targets.ids[3, 0]] = -math.inf
    options = dict(mode=mode, divergence=divergence, temperature=2.0, alpha=0.7, label_smoothing=0.1, reduction="none")
    labels = torch.tensor([0, 22, -100, 5, 5, -100, 2])
    rows = torch.arange(N) % 2 + 1.0
    kernel, reference = (
        run(student, targets, labels, rows, backend=backend, **options) for backend in ("cpu", "reference")
    )
    for ours, truth in zip(kernel, reference, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-12)


def test_the_fused_form_takes_a_backend():
    hidden, weight, targets = draw(N, 4), draw(V, 4, seed=2), SparseTargets.top_k(draw(N, V, seed=1), K)
    found = [
        sparse_linear_distillation_loss(hidden, weight, targets, LABELS, backend=backend, chunk=2)
        for backend in ("auto", "cpu", "reference")
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0], found[2])


def test_a_backend_that_cannot_is_refused():
    targets = SparseTargets.top_k(draw(N, V, seed=1), K)
    for loss in (sparse_distillation_loss, DistillationLoss(temperature=1.0, backend="triton")):
        with pytest.raises(ValueError, match=r"backend: 'triton' cannot .*sparse targets have no Triton kernel"):
            loss(draw(N, V), targets, LABELS, **({"backend": "triton"} if loss is sparse_distillation_loss else {}))
    with pytest.raises(ValueError, match="backend: expected one of 'auto'"):
        sparse_distillation_loss(draw(N, V), targets, LABELS, backend="cuda")


def test_draws_whose_normaliser_is_not_known_are_no_estimate_of_the_divergence():
    """Their log-probabilities at T are not known, and without them the value would be a cross-entropy."""
    targets = replace(SparseTargets.sample(draw(N, V, seed=1), 9, temperature=2.0), log_normalizers={})
    with pytest.raises(ValueError, match=r"log-normaliser at T = 2 is not among the targets"):
        sparse_distillation_loss(draw(N, V), targets, alpha=1, temperature=2.0)
