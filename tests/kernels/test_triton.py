"""The GPU kernel against the float64 reference: on a GPU where there is one, else through Triton's interpreter."""

import math
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

from support.triton_device import DEVICE

pytest.importorskip("triton")

from cases import CASES
from limbeck import distillation_loss, distillation_loss_parts, linear_distillation_loss
from limbeck.kernels import triton
from limbeck.kernels import triton_kernels as kernels
from limbeck.losses.divergences import ForwardKL

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")  # the interpreter computes what `where` drops
every_divergence = pytest.mark.parametrize("case", CASES, ids=str)
LABELS = torch.tensor([0, 36, -100, 5])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """So that a test's short rows take several blocks, the last one uneven."""
    monkeypatch.setattr(triton, "BLOCK", 16)


def draw(*shape, seed=0, scale=3.0, dtype=torch.float64):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def run(student, teacher, labels, upstream=None, backend="triton", **options):
    device = DEVICE if backend == "triton" else "cpu"
    options = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in options.items()}
    student, teacher, labels = (None if x is None else x.to(device) for x in (student, teacher, labels))
    leaf = student.clone().requires_grad_()
    loss = distillation_loss(leaf, teacher, labels, backend=backend, **options)
    loss.backward(torch.ones_like(loss) if upstream is None else upstream.to(loss))
    return loss.detach().cpu(), leaf.grad.cpu()


def both(student, teacher, labels, **options):
    truth = run(student.double(), None if teacher is None else teacher.double(), labels, backend="reference", **options)
    return run(student, teacher, labels, **options), truth


def agree(got, truth, rtol=1e-10, atol=1e-12):
    for ours, theirs in zip(got, truth, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=rtol, atol=atol)


@every_divergence
@pytest.mark.parametrize("t", [0.5, 1.0, 4.0])
def test_in_float64(case, t):
    options = dict(temperature=t, alpha=0.7, divergence=case.name, label_smoothing=0.1, **case.options)
    agree(*both(draw(4, 37), draw(4, 37, seed=1), LABELS, **options))


@every_divergence
@pytest.mark.parametrize(
    ("dtype", "near"),
    [(torch.float32, False), (torch.float32, True), (torch.bfloat16, True), (torch.float16, False)],
    ids=["float32-apart", "float32-near", "bfloat16-near", "float16-apart"],
)
def test_in_lower_precision(case, dtype, near):
    teacher = draw(4, 37, seed=1)
    student = (teacher + 0.03 * draw(4, 37, scale=1.0) if near else draw(4, 37)).to(dtype)
    teacher = teacher.to(dtype)
    options = dict(temperature=2.0, alpha=1, divergence=case.name, **case.options)
    (loss, gradient), (true_loss, true_gradient) = both(student, teacher, None, **options)
    torch.testing.assert_close(loss.double(), true_loss, rtol=2e-5, atol=1e-6)
    assert gradient.dtype == dtype
    error = (gradient.double() - true_gradient).norm() / true_gradient.norm()
    assert error < {torch.float32: 5e-5, torch.bfloat16: 6e-3, torch.float16: 2e-3}[dtype]


OPTIONS = {
    "hard only": dict(alpha=0.0),
    "uncompensated": dict(compensate=False),
    "curvature": dict(compensate="curvature"),
    "mask": dict(mask=torch.tensor([True, False, True, True])),
    "sum": dict(reduction="sum"),
    "num_items": dict(num_items=torch.tensor(40)),
    "pair": dict(temperature=(4.0, 1.0)),
    "per position": dict(temperature=torch.linspace(0.5, 5, 4, dtype=torch.float64)),
    "none": dict(reduction="none", upstream=torch.tensor([0.3, -1.0, 2.0, 1.0])),
    "upstream": dict(upstream=torch.tensor(-3.75)),
}


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[2], CASES[-1]], ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_options(case, options):
    settings = dict(temperature=2.0, alpha=0.3, divergence=case.name, **case.options) | options
    agree(*both(draw(4, 37), draw(4, 37, seed=1), LABELS, **settings))


@every_divergence
def test_columns_that_are_absent_and_rows_that_do_not_count(case):
    student, teacher = draw(4, 37), draw(4, 37, seed=1)
    student[:, 30:] = teacher[:, 30:] = -math.inf
    student[0, :20] = teacher[0, :20] = -math.inf  # a whole block, before anything was seen
    student[2], teacher[2] = math.nan, math.inf
    labels = torch.tensor([25, 3, -100, 5])
    options = dict(temperature=2.0, divergence=case.name, label_smoothing=0.1, **case.options)
    (loss, gradient), truth = both(student, teacher, labels, **options)
    agree((loss, gradient), truth)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("divergence", "t", "smoothing"), [("forward_kl", 1.0, 0.0), ("forward_kl", 3.0, 0.1), ("jsd", 2.0, 0.1)]
)
def test_label_rows(divergence, t, smoothing):
    rows = draw(4, 37, seed=2)
    rows[:, 3] = -math.inf
    rows = rows.softmax(-1)
    student, teacher, whole = draw(4, 37), draw(4, 37, seed=1), rows.T.contiguous().T
    student[:, 3] = teacher[:, 3] = -math.inf
    rows[2] = -100
    for labels in (rows, whole):
        agree(*both(student, teacher, labels, temperature=t, divergence=divergence, label_smoothing=smoothing))
    agree(*both(student, None, rows, alpha=0.0, label_smoothing=smoothing))


def test_where_only_one_model_lacks_a_class():
    student, teacher = draw(4, 37), draw(4, 37, seed=1)
    student[1, 3] = -math.inf
    loss, gradient = run(student, teacher, None, alpha=1, reduction="none")
    assert loss.isinf().tolist() == [False, True, False, False]  # by the definition of KL
    assert gradient.isfinite().all()
    assert gradient[1, 3] == 0
    agree(*both(teacher, student, None, alpha=1, reduction="none"))  # the teacher lacks it: nothing to cover


def test_nan_stays_nan():
    student, teacher = draw(4, 37), draw(4, 37, seed=1)
    student[1, 3] = math.nan
    loss, gradient = run(student, teacher, None, alpha=1, reduction="none")
    assert loss.isnan().tolist() == [False, True, False, False]
    assert gradient[1].isnan().all()
    assert gradient[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("shape", [(3, 2), (1, 16), (1, 17), (0, 37), (2, 3, 9), (9,)])
def test_shapes(shape):
    labels = torch.zeros(shape[:-1], dtype=torch.long)
    agree(*both(draw(*shape), draw(*shape, seed=1), labels))


def test_logits_that_are_not_contiguous():
    agree(*both(draw(37, 4).T, draw(37, 4, seed=1).T, LABELS))
    agree(*both(draw(4, 40)[:, :37], draw(4, 50, seed=1)[:, 13:], LABELS))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_in_place(dtype):
    student, teacher = draw(4, 37, dtype=dtype), draw(4, 37, seed=1, dtype=dtype)
    _, expected = run(student, teacher, LABELS)
    logits = student.to(DEVICE).requires_grad_() * torch.ones((), dtype=dtype, device=DEVICE)
    logits.retain_grad()
    loss = distillation_loss(logits, teacher.to(DEVICE), LABELS.to(DEVICE), backend="triton", inplace=True)
    loss.backward(retain_graph=True)
    assert torch.equal(logits.detach().cpu(), expected)
    with pytest.raises(RuntimeError, match="inplace=False"):
        loss.backward()


def test_parts_and_a_second_backward_pass():
    leaf = draw(4, 37).to(DEVICE).requires_grad_()
    parts = distillation_loss_parts(
        leaf, draw(4, 37, seed=1).to(DEVICE), LABELS.to(DEVICE), backend="triton", alpha=0.5
    )
    (first,) = torch.autograd.grad(parts.total, leaf, retain_graph=True)
    (again,) = torch.autograd.grad(0.5 * parts.soft + 0.5 * parts.hard, leaf)
    torch.testing.assert_close(first, again, rtol=1e-10, atol=1e-12)


def test_the_fused_projection():
    hidden, weight = draw(4, 5).to(DEVICE), draw(37, 5, seed=1).to(DEVICE)
    teacher = draw(4, 6, seed=2).to(DEVICE), draw(37, 6, seed=3).to(DEVICE)
    gradients = []
    for backend in ("triton", "reference"):
        leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        linear_distillation_loss(*leaves, *teacher, LABELS.to(DEVICE), backend=backend, chunk=2).backward()
        gradients.append([leaf.grad for leaf in leaves])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_scale():
    for dtype in (torch.float32, torch.bfloat16):
        gradient = draw(3, 37, dtype=dtype).to(DEVICE)
        for upstream in (torch.tensor(0.3), torch.tensor(1.0), torch.tensor([0.3, 1.0, -2.0])):
            factor = upstream.to(DEVICE)
            expected = (gradient.float() * (factor.unsqueeze(-1) if factor.dim() else factor)).to(dtype)
            got = triton.scale_(gradient.clone(), factor)
            torch.testing.assert_close(got, expected)  # the interpreter rounds to bfloat16 by cutting off
    wide = draw(3, 40).to(DEVICE)[:, :37]
    torch.testing.assert_close(triton.scale_(wide.clone(), torch.tensor(2.0, device=DEVICE)), 2 * wide)


@pytest.mark.slow  # the compiler takes ten seconds
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_torch_compile_takes_it_whole():
    def loss(student, teacher, labels):
        return distillation_loss(student, teacher, labels, temperature=2.0, divergence="jsd", backend="triton")

    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    given = draw(4, 37, seed=1).to(DEVICE), LABELS.to(DEVICE)
    results = []
    for function in (loss, compiled):
        leaf = draw(4, 37).to(DEVICE).requires_grad_()
        value = function(leaf, *given)
        value.backward()
        results.append((value.detach(), leaf.grad))
    for eager, whole in zip(*results, strict=True):
        torch.testing.assert_close(eager, whole)


def test_the_operator_keeps_torchs_rules():
    numbers = torch.ones(5, 4, dtype=torch.float64, device=DEVICE)
    logits = draw(4, 37).to(DEVICE), draw(4, 37, seed=1).to(DEVICE)
    arguments = (
        *logits,
        LABELS.clamp(min=0).to(DEVICE),
        None,
        numbers,
        torch.empty(4, 37, dtype=torch.float64, device=DEVICE),
    )
    triton.FUNCTIONS["test"] = ForwardKL.terms_and_slopes
    torch.library.opcheck(triton.loss_of_rows, (*arguments, kernels.FORWARD_KL.value, "test", [], 0.1, 1))


@dataclass(frozen=True)
class Chi(ForwardKL):
    """New terms, with terms and slopes of another divergence, which must not be taken for theirs."""

    def terms(self, a, b):
        return (a - b).exp() * a.exp() - a.exp()


def test_what_the_kernel_cannot_do_is_said():
    logits, weight = draw(4, 37).to(DEVICE), torch.ones(37, device=DEVICE)
    with pytest.raises(ValueError, match=r"backend: 'triton' cannot.*class weights.*'auto'"):
        distillation_loss(logits, logits, LABELS.to(DEVICE), weight=weight, backend="triton")
    with pytest.raises(ValueError, match=r"the divergence Chi has no terms_and_slopes, only terms"):
        distillation_loss(logits, logits, LABELS.to(DEVICE), divergence=Chi(), backend="triton")


def test_terms_and_slopes_older_than_the_terms_are_not_used():
    student, teacher = draw(4, 37, scale=1.0), draw(4, 37, seed=1, scale=1.0)
    p_s, p_t = student.softmax(-1), teacher.softmax(-1)
    for backend in ("cpu", "reference"):
        loss = distillation_loss(student, teacher, alpha=1, temperature=1.0, divergence=Chi(), backend=backend)
        torch.testing.assert_close(loss, ((p_s - p_t) ** 2 / p_t).sum(-1).mean())


def test_two_functions_of_one_name_are_kept_apart():
    """As in a notebook, where a cell is run again after a change."""

    def make(factor):
        def terms_and_slopes(d, p_s, p_t):
            return factor * d, d

        return terms_and_slopes

    one, other = make(1), make(2)
    names = [triton.registered(function) for function in (one, other, one)]
    assert names[0] == names[2] != names[1]
    assert [triton.FUNCTIONS[name] for name in names] == [one, other, one]


COMPILE = """
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from limbeck.kernels import triton as k
from limbeck.kernels import triton_kernels as kernels
from limbeck.losses.divergences import DIVERGENCES
from support.two_parameters import Blend

kernel = kernels.loss_kernel
kinds = {"forward_kl": kernels.FORWARD_KL, "reverse_kl": kernels.REVERSE_KL, "logit_mse": kernels.CENTRED_LOGITS}
named = [(name, cls(), "bf16") for name, cls in DIVERGENCES.items()]
named += [("jsd", DIVERGENCES["jsd"](), "fp64"), ("blend", Blend(), "bf16")]
for name, divergence, dtype in named:
    acc, wide = (tl.float64, "*fp64") if dtype == "fp64" else (tl.float32, "*fp32")
    rows = dtype == "fp64" or name == "blend"
    known = dict(
        KIND=kinds.get(name, kernels.TERMS_AND_SLOPES).value, DIVERGENCE=k.compiled(divergence.terms_and_slopes),
        PARAMETERS=tuple(map(float, divergence.parameter_values)), EPS=0.1, POWER=0,
        HAS_LABELS=True, HAS_ROWS=rows, HAS_LABELLED=True, HAS_GRADIENT=True, ACC=acc, BLOCK=1024,
    )
    logits = "*" + dtype
    given = dict(student=logits, teacher=logits, labelled="*u8", numbers=wide, values=wide, gradient=logits)
    given["labels"] = wide if rows else "*i64"
    signature = {name: given.get(name, "i32") for name in kernel.arg_names if name not in known}
    source = ASTSource(
        fn=kernel, signature=signature | {name: "constexpr" for name in known},
        constexprs={(kernel.arg_names.index(name),): value for name, value in known.items()},
    )
    code = compile(source, target=GPUTarget("cuda", 90, 32), options=dict(num_warps=2))
    assert len(code.asm["cubin"]) > 1000
    print(name, dtype)
"""


@pytest.mark.slow  # a minute
def test_every_divergence_compiles_for_a_gpu_that_is_not_here(tmp_path):
    """The interpreter takes more Python than the compiler does, so the compiler is asked too (for sm_90)."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    script = tmp_path / "compile.py"
    script.write_text(COMPILE)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 9
