"""How a divergence is chosen, and which of its methods the kernels may trust."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from limbeck import DistillationLoss, Divergence, SparseTargets, distillation_loss, sparse_distillation_loss
from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses import divergences
from limbeck.losses.divergences import JSD, ForwardKL, LogitMSE, ReverseKL, SkewKL, resolve_divergence
from support.two_parameters import Blend


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("reverse_kl", ReverseKL()),
        ("jsd", JSD(0.3)),
        ({"name": "jsd"}, JSD(0.3)),
        ({"name": "jsd", "beta": 0.1}, JSD(0.1)),
        ({"name": "skew_kl", "skew": 0.2}, SkewKL(0.2)),
        ({"name": "logit_mse", "center": False}, LogitMSE(center=False)),
        (JSD(0.7), JSD(0.7)),
    ],
    ids=str,
)
def test_a_choice(choice, expected):
    assert resolve_divergence(choice, beta=0.3) == expected
    assert resolve_divergence(choice, beta=0.3).name == expected.name


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (
            {"name": "jsd", "bta": 0.1},
            ArgumentError,
            r"divergence: 'jsd' has no parameter 'bta', did you mean beta\?",
        ),
        ({"name": "tvd", "beta": 0.1}, ArgumentError, r"divergence: 'tvd' has no parameter 'beta'\. It has none"),
        ({"name": "kl"}, ArgumentError, r"divergence: expected one of forward_kl, reverse_kl, .*, got 'kl'\."),
        ({"beta": 0.1}, ArgumentTypeError, r"divergence: expected a name, a mapping with a name .* got \{'beta'"),
        (3, ArgumentTypeError, r"divergence: expected a name.*got int\. The names are forward_kl"),
        ({"name": "jsd", "beta": 2}, ArgumentError, r"beta: expected a number in \[0, 1\], got 2"),
        ({"name": "jsd", "beta": "a"}, ArgumentTypeError, r"beta: expected a number in \[0, 1\], got 'a'"),
    ],
    ids=str,
)
def test_a_wrong_choice(choice, error, message):
    for call in (resolve_divergence, lambda c: DistillationLoss(divergence=c)):
        with pytest.raises(error, match=message):
            call(choice)


@dataclass(frozen=True)
class Squared(ForwardKL):
    """A subclass with a formula of its own, fast form and all: ½ sum (p_t - p_s)²."""

    def terms(self, a, b):
        return (a.exp() - b.exp()) ** 2 / 2

    @staticmethod
    def terms_and_slopes(d, p_s, p_t):
        return (p_t - p_s) * (p_t - p_s) / 2, (p_s - p_t) * p_s


@dataclass(frozen=True)
class SquaredJSD(JSD):
    """The same, under a class that becomes forward KL at an end of its parameter."""

    terms = Squared.terms
    terms_and_slopes = staticmethod(lambda d, p_s, p_t, beta: Squared.terms_and_slopes(d, p_s, p_t))


@pytest.mark.parametrize("divergence", [Squared(), SquaredJSD(0.0)], ids=str)
def test_a_subclass_is_not_taken_for_its_parent(divergence):
    leaf, teacher = draw(3, 7).requires_grad_(), draw(3, 7, seed=1)
    loss = distillation_loss(leaf, teacher, alpha=1, temperature=1.0, divergence=divergence)
    truth = ((leaf.softmax(-1) - teacher.softmax(-1)) ** 2).sum(-1).mean() / 2
    torch.testing.assert_close(loss.detach(), truth.detach())
    torch.testing.assert_close(*(torch.autograd.grad(x, leaf)[0] for x in (loss, truth)))
    drawn = SparseTargets.sample(teacher, 5)
    with pytest.raises(ArgumentError, match="only forward KL can be estimated"):
        sparse_distillation_loss(leaf, drawn, alpha=1, divergence=divergence)


def test_what_the_kernels_may_trust():
    @dataclass(frozen=True)
    class NewTerms(ForwardKL):
        def terms(self, a, b):
            return 2 * super().terms(a, b)

    @dataclass(frozen=True)
    class Same(ForwardKL):
        """Only another C(T)."""

        def compensation(self, temperature):
            return 1.0

    assert Same().is_computed_as(ForwardKL)
    assert not Same().is_computed_as(ReverseKL)
    assert not NewTerms().has_terms_and_slopes
    assert not NewTerms().is_computed_as(ForwardKL)
    assert NewTerms.name == "NewTerms"  # and not its parent's
    assert not Divergence.has_terms_and_slopes
    assert LogitMSE(center=False).is_centred is False
    assert Blend(0.1, 0.2).parameter_values == (0.1, 0.2)  # registered or not


def test_the_mathematics_imports_no_kernel():
    """The reference, and what it is written with, can be read and tested alone."""
    folder, seen, waiting = Path(divergences.__file__).parent, set(), ["reference"]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("limbeck"):
                assert not node.module.startswith("limbeck.kernels"), name
                parts = node.module.split(".")
                if parts[:2] == ["limbeck", "losses"]:
                    below = [parts[2]] if len(parts) > 2 else [alias.name for alias in node.names]
                    waiting += [part for part in below if part not in seen]
    assert {"divergences", "divergence_base", "arithmetic"} & seen
