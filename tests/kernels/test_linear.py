"""The fused projection against the dense loss on whole logits in float64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cases import CASES
from limbeck import distillation_loss, linear_distillation_loss, linear_distillation_loss_parts
from limbeck.kernels import linear as linear_kernel

N, V, D_S, D_T = 11, 37, 5, 7
every_divergence = pytest.mark.parametrize("case", CASES, ids=str)
LABELS = torch.tensor([0, 36, -100, 5, 5, 1, 2, 3, -100, 7, 8])


def draw(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Models:
    """Hidden states and output layers of a student and a teacher; fresh leaves whenever asked."""

    def __init__(self, *positions, v_s=V, v_t=V, dtype=torch.float64):
        positions = positions or (N,)
        self.student = [
            draw(*positions, D_S, scale=2).to(dtype),
            draw(v_s, D_S, seed=1).to(dtype),
            draw(v_s, seed=2).to(dtype),
        ]
        self.teacher = [
            draw(*positions, D_T, seed=3).to(dtype),
            draw(v_t, D_T, seed=4).to(dtype),
            draw(v_t, seed=5).to(dtype),
        ]

    def leaves(self, *, frozen=()):
        return [x.detach().clone().requires_grad_(i not in frozen) for i, x in enumerate(self.student)]

    def fused(self, labels=LABELS, upstream=None, frozen=(), chunk=4, **options):
        hidden, weight, bias = leaves = self.leaves(frozen=frozen)
        loss = linear_distillation_loss(
            hidden, weight, self.teacher[0], self.teacher[1], labels,
            student_bias=bias, teacher_bias=self.teacher[2], chunk=chunk, **options,
        )  # fmt: skip
        loss.backward(torch.ones_like(loss) if upstream is None else upstream.to(loss.dtype))
        return loss.detach(), *(leaf.grad for leaf in leaves)

    def whole(self, labels=LABELS, upstream=None, *, change=lambda z, model: z, classes=V, **options):
        """The same by plain projections and the reference, in float64."""
        hidden, weight, bias = leaves = [x.double().clone().requires_grad_() for x in self.student]
        student = change(hidden @ weight.T + bias, "student")[..., :classes]
        with torch.no_grad():
            teacher = self.teacher[0].double() @ self.teacher[1].double().T + self.teacher[2].double()
            teacher = change(teacher, "teacher")[..., :classes]
        loss = distillation_loss(student, teacher, labels, backend="reference", **options)
        loss.backward(torch.ones_like(loss) if upstream is None else upstream)
        return loss.detach(), *(leaf.grad for leaf in leaves)


def agree(got, truth, **tolerance):
    for ours, theirs in zip(got, truth, strict=True):
        torch.testing.assert_close(ours.double(), theirs, **tolerance or dict(rtol=1e-10, atol=1e-12))


OPTIONS = {
    "plain": {},
    "soft only": dict(alpha=1.0),
    "hard only": dict(alpha=0.0),
    "curvature": dict(compensate="curvature"),
    "smoothing": dict(label_smoothing=0.1),
    "mask": dict(mask=torch.arange(N) % 3 > 0),
    "sum": dict(reduction="sum"),
    "num_items": dict(num_items=torch.tensor(40)),
    "pair": dict(temperature=(4.0, 1.0)),
    "per position": dict(temperature=torch.linspace(0.5, 5, N, dtype=torch.float64)),
    "weight": dict(weight=torch.linspace(0.1, 2, V, dtype=torch.float64)),
    "none": dict(reduction="none", upstream=torch.linspace(-1, 2, N, dtype=torch.float64)),
    "upstream": dict(upstream=torch.tensor(-3.7, dtype=torch.float64)),
}


@every_divergence
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_values_and_gradients(case, options):
    settings = dict(temperature=2.0, alpha=0.3, divergence=case.name, **case.options) | options
    for backend in ("auto", "reference"):
        agree(Models().fused(backend=backend, **settings), Models().whole(**settings))


@pytest.mark.parametrize("chunk", [1, 3, N, 100, "auto"])
def test_any_chunk(chunk):
    agree(Models().fused(chunk=chunk), Models().whole())


def test_positions_of_any_shape():
    models = Models(2, 3)
    labels = torch.tensor([[0, 1, -100], [5, -100, 7]])
    agree(models.fused(labels), models.whole(labels))
    none = models.fused(labels, reduction="none")
    assert none[0].shape == (2, 3)
    agree(none, models.whole(labels, reduction="none"))


@pytest.mark.parametrize(("dtype", "loss", "gradient"), [(torch.float32, 1e-6, 1e-6), (torch.bfloat16, 1e-5, 6e-3)])
def test_lower_precision(dtype, loss, gradient):
    """Half-precision inputs are read as they are; their gradients are rounded when they are written, not before."""
    models = Models(dtype=dtype)
    got, truth = models.fused(temperature=2.0), models.whole(temperature=2.0)
    torch.testing.assert_close(got[0].double(), truth[0], rtol=loss, atol=loss)
    for ours, theirs in zip(got[1:], truth[1:], strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).norm() / theirs.norm() < gradient


def test_close_distributions_in_bfloat16():
    """Logits that were rounded to bfloat16 would lose the difference: peers' gradients are 25 to 80 % off there."""
    torch.manual_seed(0)
    hidden = torch.randn(6, 64).bfloat16()
    weight = (0.3 * torch.randn(2000, 64)).bfloat16()
    other = (weight + 0.004 * torch.randn(2000, 64)).bfloat16()
    gradients = []
    for dtype in (torch.bfloat16, torch.float64):
        leaf = hidden.to(dtype).clone().requires_grad_()
        linear_distillation_loss(leaf, weight.to(dtype), hidden.to(dtype), other.to(dtype), alpha=1, chunk=4).backward()
        gradients.append(leaf.grad.double())
    assert (gradients[0] - gradients[1]).norm() / gradients[1].norm() < 0.005


def test_logit_scale_and_softcap():
    def change(z, model):
        scale, cap = (0.5, 3.0) if model == "student" else (1.5, 5.0)
        return cap * torch.tanh(scale * z / cap)

    options = dict(
        student_softcap=3.0, teacher_softcap=5.0, student_logit_scale=0.5, teacher_logit_scale=1.5, label_smoothing=0.1
    )
    agree(Models().fused(**options), Models().whole(change=change, label_smoothing=0.1))


def test_vocabulary_padding_takes_no_part():
    models = Models(v_s=40, v_t=48)
    got, truth = models.fused(vocab_size=V), models.whole(classes=V)
    agree(got, truth)
    assert (got[2][V:] == 0).all()
    with pytest.raises(ValueError, match=r"48 classes, but student_weight has 40.*vocab_size=40"):
        models.fused()


def test_ignored_positions_are_dropped_before_the_product():
    models = Models()
    models.student[0][LABELS == -100] = models.teacher[0][LABELS == -100] = torch.nan
    got = models.fused()
    assert all(x.isfinite().all() for x in got)
    assert (got[1][LABELS == -100] == 0).all()


def test_no_counted_position():
    for labels, models in ((torch.full((N,), -100), Models()), (torch.zeros(0, dtype=torch.long), Models(0))):
        loss, *gradients = models.fused(labels)
        assert loss == 0
        assert all((g == 0).all() for g in gradients)


def test_gradients_of_the_parts_and_a_second_backward_pass():
    models = Models()
    hidden, weight, bias = leaves = models.leaves()
    parts = linear_distillation_loss_parts(
        hidden,
        weight,
        *models.teacher[:2],
        LABELS,
        student_bias=bias,
        teacher_bias=models.teacher[2],
        chunk=4,
        alpha=0.5,
    )
    plain = torch.autograd.grad(parts.total, leaves, retain_graph=True)
    again = torch.autograd.grad(0.5 * parts.soft + 0.5 * parts.hard, leaves, retain_graph=True)
    agree(again, plain)
    agree(torch.autograd.grad(parts.total, leaves), plain)
    torch.testing.assert_close(0.5 * parts.soft + 0.5 * parts.hard, parts.total)
    with pytest.raises(RuntimeError, match=r"first derivatives only"):
        torch.autograd.grad(
            linear_distillation_loss(hidden, weight, *models.teacher[:2], LABELS), hidden, create_graph=True
        )


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, and how many matrix products there are."""

    def __init__(self):
        super().__init__()
        self.numel = self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.products += "mm" in func.__name__
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_the_logits_are_never_whole_and_what_is_frozen_costs_nothing():
    models = Models(100)
    labels = torch.arange(100) % V
    for frozen, products in (((), 4), ((1, 2), 3), ((0,), 3), ((0, 1, 2), 2)):
        hidden, weight, bias = models.leaves(frozen=frozen)
        with Largest() as seen:
            loss = linear_distillation_loss(
                hidden, weight, *models.teacher[:2], labels, student_bias=bias, teacher_bias=models.teacher[2], chunk=10
            )
        assert seen.numel <= max(10 * V, 100 * D_T)
        assert seen.products == products * 10
        if len(frozen) < 3:
            with Largest() as seen:
                loss.backward()
            assert seen.products == 0


def test_autocast_projects_in_its_dtype():
    models = Models(dtype=torch.float32)
    hidden, weight, bias = models.leaves()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_distillation_loss(hidden, weight, *models.teacher[:2], LABELS, student_bias=bias)
        expected = linear_distillation_loss(
            hidden.bfloat16(), weight, models.teacher[0].bfloat16(), models.teacher[1], LABELS, student_bias=bias
        )
    loss.backward()
    assert torch.equal(loss, expected)
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (dict(student_weight=draw(D_S, V)), ValueError, r"student_weight: expected \(V, d\) with d = \(5,\)"),
            (dict(teacher_hidden=None), TypeError, r"teacher_hidden: .* got NoneType\. Only alpha=0"),
            (dict(teacher_hidden=draw(3, D_T)), ValueError, r"teacher_logits: shape \(3, 37\)"),
            (
                dict(student_bias=draw(3)),
                ValueError,
                r"student_bias: expected one number per class, \(37,\), got \(3,\)",
            ),
            (dict(student_hidden=torch.zeros(N, D_S, dtype=torch.long)), TypeError, r"student_hidden: .*torch\.int64"),
            (dict(vocab_size=38), ValueError, r"vocab_size: .*from 1 to 37, got 38"),
            (dict(chunk=0), ValueError, r"chunk: .*got 0"),
            (dict(student_softcap=-1.0), ValueError, r"student_softcap: .*got -1\.0"),
            (dict(temperature=torch.tensor(2.0, requires_grad=True)), ValueError, r"temperature: it asks for gradient"),
            (dict(labels=torch.full((N,), V)), ValueError, r"labels: 37 is out of range"),
        ],
    )
    def test_named(self, change, error, message):
        given = dict(
            student_hidden=draw(N, D_S), student_weight=draw(V, D_S), teacher_hidden=draw(N, D_T), teacher_weight=draw(V, D_T),
            labels=LABELS,
        )  # fmt: skip
        with pytest.raises(error, match=message):
            linear_distillation_loss(**given | change)

    def test_a_teacher_is_not_needed_for_hard_labels(self):
        models = Models()
        alone = linear_distillation_loss(models.student[0], models.student[1], None, None, LABELS, alpha=0)
        logits = models.student[0] @ models.student[1].T
        torch.testing.assert_close(alone, torch.nn.functional.cross_entropy(logits, LABELS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_bfloat16_units_of_a_cpu_are_used_for_bfloat16_alone(dtype, monkeypatch):
    settings = torch.backends.mkldnn.matmul
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    seen = []
    product = linear_kernel._product
    monkeypatch.setattr(
        linear_kernel, "_product", lambda *args, **kw: (seen.append(settings.fp32_precision), product(*args, **kw))
    )
    before = settings.fp32_precision
    hidden, weight = torch.randn(6, 8).to(dtype), torch.randn(20, 8).to(dtype)
    linear_distillation_loss(hidden.requires_grad_(), weight, hidden, weight, alpha=1)
    assert set(seen) == {"bf16" if dtype == torch.bfloat16 else before}
    assert settings.fp32_precision == before
