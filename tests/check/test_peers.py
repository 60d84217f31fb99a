"""What the check says of the losses of other libraries, as docs/how-to/check-a-loss.md shows it."""

import sys
from pathlib import Path

import pytest
import torch

from limbeck.check import check_loss

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import peers

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def wrong_and_limited(report):
    return [f.property for f in report.wrong], [f.property for f in report.limited]


@pytest.mark.parametrize(
    ("name", "formula", "limited"),
    [
        ("ForwardKLLoss", "1 KL(teacher ‖ student)", ["nothing_counted", "value"]),
        ("ReverseKLLoss", "1 KL(student ‖ teacher)", ["nothing_counted", "minus_infinity"]),
        (
            "SymmetricKLLoss",
            "0.5 KL(teacher ‖ student) + 0.5 KL(student ‖ teacher)",
            ["nothing_counted", "value", "minus_infinity"],
        ),
    ],
)
def test_torchtune(name, formula, limited):
    if (module := peers.torchtune_losses()) is None:
        pytest.skip("torchtune is not installed")
    report = check_loss(getattr(module, name)(), shape=(3, 4, 7))
    assert report.formula == f"{formula}, a mean over rows x positions"
    assert wrong_and_limited(report) == ([], ["teacher_gradient", *limited])


def test_trl():
    if (trainer := peers.trl_gkd()) is None:
        pytest.skip("trl is not installed")
    report = check_loss(trainer.generalized_jsd_loss, shape=(3, 4, 7))
    assert report.formula == "1 JSD(beta=0.5), a mean over rows x positions"
    assert wrong_and_limited(report) == (["compensation"], ["teacher_gradient", "minus_infinity", "bfloat16"])


def test_liger():
    """Logits are made from hidden states: the identity as the output embedding hands the logits through."""
    if (cls := peers.liger_jsd()) is None:
        pytest.skip("liger-kernel is not installed")

    def call(student, teacher, labels, T):  # noqa: N803
        loss = cls(weight_hard_loss=0.5, weight_soft_loss=0.5, beta=0.5, temperature=T, compiled=False)
        identity = torch.eye(student.shape[-1], dtype=student.dtype)
        value = loss(student.flatten(0, -2), identity, teacher.flatten(0, -2), identity, labels.flatten())
        return value[0] if isinstance(value, tuple) else value

    report = check_loss(cls, call=call, shape=(3, 4, 7))
    assert report.formula == "0.5 JSD(beta=0.5) + 0.5 CE, a mean over rows x positions"
    assert wrong_and_limited(report) == (["compensation"], ["minus_infinity"])


def test_torchdistill():
    cls = pytest.importorskip("torchdistill.losses.mid_level").KDLoss

    def call(student, teacher, labels, T):  # noqa: N803
        return cls("fc", "output", "fc", "output", T, alpha=0.5)(
            {"fc": {"output": student}}, {"fc": {"output": teacher}}, labels
        )

    report = check_loss(cls, call=call)
    assert report.formula == "0.5 T² KL(teacher ‖ student) + 0.5 CE, a mean over rows"
    assert wrong_and_limited(report) == (
        [],
        ["teacher_gradient", "padding", "nothing_counted", "minus_infinity"],
    )
