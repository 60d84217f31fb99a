"""What ``help()`` and type checkers say of the losses: full signatures, and one return type each."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.losses import LossParts
from limbeck.losses.parts import with_arguments_of

PAIRS = [
    (getattr(limbeck, name), getattr(limbeck, f"{name}_parts"))
    for name in (
        "distillation_loss",
        "linear_distillation_loss",
        "sparse_distillation_loss",
        "sparse_linear_distillation_loss",
    )
]
each = pytest.mark.parametrize(("loss", "parts"), PAIRS, ids=[loss.__name__ for loss, _ in PAIRS])


@each
def test_both_have_one_signature_but_for_what_they_return(loss, parts):
    spelled, borrowed = inspect.signature(loss), inspect.signature(parts)
    assert spelled.parameters == borrowed.parameters
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in spelled.parameters.values())
    assert spelled.return_annotation == "Tensor"
    assert borrowed.return_annotation is LossParts
    assert parts.__name__ == f"{loss.__name__}_parts"


@each
def test_every_argument_is_documented(loss, parts):
    documented = loss.__doc__.partition("Args:")[2].partition("Returns:")[0]
    for name in inspect.signature(loss).parameters:
        assert f"        {name}: " in documented, name
    assert loss.__name__ in parts.__doc__
    assert "Raises:" in loss.__doc__


def test_an_unknown_argument_is_named_with_the_function():
    logits = torch.zeros(2, 3)
    with pytest.raises(TypeError, match=r"distillation_loss_parts\(\) got an unexpected keyword argument 'temprature'"):
        limbeck.distillation_loss_parts(logits, logits, temprature=2.0)


def test_defaults_and_given_arguments_meet():
    def loss(x, *, scale=2, shift=1):
        raise AssertionError

    @with_arguments_of(loss)
    def parts(*args, **options):
        return args, options

    assert parts(5, shift=7) == ((5,), {"scale": 2, "shift": 7})


TYPED = """
import torch
from limbeck import LossParts, distillation_loss, distillation_loss_parts, linear_distillation_loss
from typing import assert_type

x, w = torch.zeros(2, 3), torch.zeros(4, 3)
linear_distillation_loss(x, w, x, w, alpha=1).backward()
assert_type(distillation_loss(x, x, alpha=1), torch.Tensor)
assert_type(distillation_loss_parts(x, x, alpha=1, divergence={"name": "jsd", "beta": 0.1}), LossParts)
distillation_loss_parts(x, x, alfa=1)
"""


def test_type_checkers_see_a_tensor_or_parts(tmp_path, backend):
    pyright = Path(sys.executable).with_name("pyright")
    if not pyright.exists() or backend != "auto":
        pytest.skip("pyright is not installed" if backend == "auto" else "types know no backend")
    script = tmp_path / "typed.py"
    script.write_text(TYPED)
    source = Path(limbeck.__file__).parents[1]
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{source}"]}}')
    command = [pyright, "--pythonpath", sys.executable, "--project", tmp_path, script]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    errors = [line for line in output.splitlines() if " - error" in line]
    assert len(errors) == 1, output
    assert 'No parameter named "alfa"' in errors[0]
