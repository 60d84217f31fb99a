"""The report of a check, and the helper for tests."""

import json
import re
from pathlib import Path

import pytest
import torch

from limbeck import distillation_loss
from limbeck.check import PROPERTIES, Verdict, assert_loss, check_loss
from limbeck.errors import ArgumentError
from support import zoo


def test_the_readmes_loss_passes():
    """The lines that the README shows as the loss that people write by hand."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:soft|by_hand) = .*$", readme, re.MULTILINE)
    scope = {"F": torch.nn.functional, "alpha": 0.9}
    exec("def loss(s, t, labels, T):\n    " + "\n    ".join([*lines, "return by_hand"]), scope)
    report = check_loss(scope["loss"])
    assert report.wrong == ()
    assert report.formula == "0.9 T² KL(teacher ‖ student) + 0.1 CE, a mean over rows"


def test_a_report_has_each_property_once_and_is_json():
    report = check_loss(zoo.no_t_squared)
    assert tuple(finding.property for finding in report.findings) == PROPERTIES
    read = json.loads(json.dumps(report.as_dict()))
    assert read["loss"] == "no_t_squared"
    assert read["findings"][3]["verdict"] == "wrong"
    assert json.loads(json.dumps(check_loss(zoo.by_hand).as_dict(), allow_nan=False))["findings"][12]["number"] is None
    assert report["compensation"].number == pytest.approx(-2, abs=0.1)
    assert report.fixes()[0] == "compensation: Multiply the soft term by T^2: it is missing."


@pytest.mark.parametrize(("loss", "power"), [(zoo.t_once, -1), (zoo.t_squared_twice, 2)])
def test_the_number_is_the_power_of_t(loss, power):
    assert check_loss(loss)["compensation"].number == pytest.approx(power, abs=0.1)


def test_what_needs_labels_or_t_is_not_applicable():
    report = check_loss(lambda s, t: zoo.kl(s, t, 1))
    absent = {finding.property for finding in report.findings if finding.verdict is Verdict.ABSENT}
    assert absent == {"temperature", "compensation", "hard_term", "padding", "nothing_counted"}
    assert report.wrong == ()


def test_a_failed_assertion_names_the_property_and_the_fix():
    with pytest.raises(AssertionError, match=r"(?s)compensation: .* Multiply the soft term by T\^2"):
        assert_loss(zoo.no_t_squared)
    assert_loss(zoo.no_t_squared, accept=["compensation"])
    assert_loss(zoo.by_hand)
    with pytest.raises(AssertionError, match="minus_infinity"):
        assert_loss(zoo.by_hand, strict=True)


def test_a_limit_on_the_vocabulary_is_named(monkeypatch):
    monkeypatch.undo()  # all 140,001 classes
    report = check_loss(zoo.small_vocabularies)
    assert report["large_vocabulary"].verdict is Verdict.LIMITED
    assert "too many classes" in report["large_vocabulary"].shown
    assert_loss(distillation_loss, strict=True)


def test_limbecks_own_loss_is_right_without_a_limit():
    assert_loss(distillation_loss, strict=True)
    assert_loss(distillation_loss, strict=True, shape=(3, 4, 7))


def test_what_is_wrong_with_the_arguments_is_said():
    with pytest.raises(ArgumentError, match="Did you mean compensation"):
        assert_loss(zoo.by_hand, accept=["compensations"])
    with pytest.raises(ArgumentError, match="expected two or three sizes"):
        check_loss(zoo.by_hand, shape=(6,))
    with pytest.raises(ArgumentError, match=r"failed on logits of shape .* no matter what"):
        check_loss(zoo.by_hand, call=fails)


def fails(student, teacher, labels, T):  # noqa: N803
    raise RuntimeError("no matter what")


def test_a_loss_that_refuses_one_property_is_examined_for_the_others():
    def of_six_rows(s, t, labels, T):  # noqa: N803
        assert len(s) == 6, "six rows"
        return zoo.by_hand(s, t, labels, T)

    report = check_loss(of_six_rows)
    assert report["divergence"].verdict is Verdict.RIGHT
    assert report["reduction"].verdict is Verdict.UNKNOWN
    assert "six rows" in report["reduction"].shown
