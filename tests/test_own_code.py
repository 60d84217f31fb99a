"""Classes of the user's own by ``package.module:Class``, and names that are given to them."""

import sys

import pytest

from limbeck.errors import ArgumentError, ArgumentTypeError
from limbeck.losses import DIVERGENCES, Divergence, register_divergence
from limbeck.losses.divergences import JSD, resolve_divergence
from limbeck.own_code import import_class, is_own
from limbeck.temperature import POLICIES, Policy, policy_from, register_policy

MODULE = """
from dataclasses import dataclass
from limbeck.losses import Divergence, expectation
from limbeck.temperature import Policy, Softening

@dataclass(frozen=True)
class Weighted(Divergence):
    weight: float = 2.0
    beta: float = 0.1

    def terms(self, a, b):
        return self.weight * expectation(b.exp(), b - a)

class Steps(Policy):
    def __init__(self, high=8.0):
        super().__init__()
        self.high = high

    @property
    def nominal_temperature(self):
        return self.high

    def forward(self, student_logits, teacher_logits, labels=None, progress=0.0, mask=None):
        t = self.high if progress < 0.5 else 1.0
        return Softening(t, t)

class Plain(Divergence):
    weight: float = 2.0

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_losses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_losses"
    sys.modules.pop("own_losses", None)


def test_a_divergence_by_its_module(own):
    assert is_own("own_losses:Weighted")
    assert not is_own("jsd")
    made = resolve_divergence({"name": "own_losses:Weighted", "weight": 3.0}, beta=0.3)
    assert repr(made) == "Weighted(weight=3.0, beta=0.3)"
    with pytest.raises(ArgumentError, match=r"has no parameter 'wieght'.*weight"):
        resolve_divergence({"name": "own_losses:Weighted", "wieght": 3.0})


def test_a_policy_by_its_module(own):
    made = policy_from({"policy": "own_losses:Steps", "high": 6.0})
    assert made.nominal_temperature == 6.0
    assert made.name == "own_losses:Steps"
    with pytest.raises(ArgumentError, match=r"^temperature\.hihg: own_losses:Steps has no such setting.*high"):
        policy_from({"policy": "own_losses:Steps", "hihg": 6.0})


@pytest.mark.parametrize("wrong", ["no_such_module:X", "own_losses:Missing", "own_losses:", ":X"])
def test_what_cannot_be_imported_is_said(own, wrong):
    with pytest.raises(ArgumentError, match=r"^divergence: .*Expected package\.module:Class"):
        resolve_divergence(wrong)
    with pytest.raises(ArgumentError, match=r"^temperature\.policy: .*Expected package\.module:Class"):
        policy_from({"policy": wrong})


@pytest.mark.parametrize("wrong", ["own_losses:number", "own_losses:Steps"])
def test_what_is_no_such_class_is_said(own, wrong):
    with pytest.raises(ArgumentTypeError, match=r"expected a subclass of limbeck\.losses\.divergence_base\.Divergence"):
        import_class(wrong, Divergence, "divergence")


def test_parameters_are_the_fields_of_a_dataclass(own):
    with pytest.raises(ArgumentError, match=r"Plain has the parameter weight, but is no dataclass"):
        resolve_divergence("own_losses:Plain")
    with pytest.raises(ArgumentError, match="no dataclass"):
        register_divergence("plain")(import_class("own_losses:Plain", Divergence, "divergence"))


@pytest.mark.parametrize(
    ("register", "taken", "base"), [(register_divergence, "jsd", Divergence), (register_policy, "gap", Policy)]
)
def test_a_name_is_checked(register, taken, base):
    class Own(base):
        pass

    with pytest.raises(ArgumentError, match=rf"^name: '{taken}' is the name of \w+ already"):
        register(taken)(Own)
    with pytest.raises(ArgumentError, match="name: expected a text without a colon"):
        register("a:b")
    with pytest.raises(ArgumentTypeError, match=rf"^name: expected a text.*Write @{register.__name__}\('my_name'\)"):
        register(Own)
    for wrong in (3, int):
        with pytest.raises(ArgumentTypeError, match="expected a subclass"):
            register("free")(wrong)
    assert "free" not in DIVERGENCES
    assert "free" not in POLICIES


def test_a_new_version_of_a_class_takes_its_place():
    register_divergence("jsd")(JSD)

    def define():
        class Own(Policy):
            pass

        return Own

    try:
        register_policy("own")(define())
        again = register_policy("own")(define())
        assert POLICIES["own"] is again
        assert again.name == "own"
    finally:
        POLICIES.pop("own", None)
