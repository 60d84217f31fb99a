"""The arguments of a loss are found by their names, and a name that is not known is refused."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.check.calling import as_loss, call_from_text, import_loss
from limbeck.errors import ArgumentError, ArgumentTypeError
from support import zoo

S, T, Y = torch.randn(4, 5), torch.randn(4, 5), torch.arange(4)
TRUTH = zoo.by_hand(S, T, Y, 2.0, alpha=0.5)


def with_names(names):
    """Return a loss with arguments of four names: student, teacher, labels, T."""
    scope = {"by_hand": zoo.by_hand}
    exec(f"def loss({', '.join(names)}): return by_hand({', '.join(names)}, alpha=0.5)", scope)
    return scope["loss"]


@pytest.mark.parametrize(
    "names",
    [
        ("student_logits", "teacher_logits", "labels", "temperature"),
        ("student", "teacher", "targets", "T"),
        ("s", "t", "y", "tau"),
        ("logits_student", "logits_teacher", "target", "temp"),
        ("y_s", "y_t", "label", "kd_temperature"),
        ("student_output", "teacher_output", "y_true", "t"),
        ("student_outputs", "teacher_outputs", "hard_labels", "kd_T"),
    ],
    ids=str,
)
def test_names_that_people_write(names):
    loss = as_loss(with_names(names))
    assert (loss.takes_labels, loss.takes_temperature) == (True, True)
    torch.testing.assert_close(loss(S, T, Y, 2.0), TRUTH)


def test_a_required_weight_is_a_half():
    def loss(student_logits, teacher_logits, labels, T, alpha, *, teacher_temperature=None):  # noqa: N803
        return zoo.by_hand(student_logits, teacher_logits, labels, T, alpha)

    torch.testing.assert_close(as_loss(loss)(S, T, Y, 2.0), TRUTH)


def test_a_class_is_made_for_each_temperature():
    loss = as_loss(zoo.KDLoss)
    torch.testing.assert_close(loss(S, T, Y, 2.0), TRUTH)
    assert loss(S, T, Y, 4.0) != loss(S, T, Y, 2.0)


def test_a_module_keeps_its_temperature():
    loss = as_loss(zoo.KDLoss(2.0))
    assert (loss.takes_temperature, loss.temperature) == (False, 2.0)
    torch.testing.assert_close(loss(S, T, Y, 7.0), TRUTH)


def test_a_partial_function():
    loss = as_loss(functools.partial(zoo.by_hand, alpha=0.5))
    torch.testing.assert_close(loss(S, T, Y, 2.0), TRUTH)


@pytest.mark.parametrize("returned", [lambda x: x, lambda x: (x, None), lambda x: {"loss": x}, lambda x: [x, x]])
def test_the_loss_is_found_in_what_is_returned(returned):
    loss = as_loss(lambda s, t, labels, T: returned(zoo.by_hand(s, t, labels, T, 0.5)))  # noqa: N803
    torch.testing.assert_close(loss(S, T, Y, 2.0), TRUTH)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (F.kl_div, "is the student"),
        (lambda student, target: 0, "is the teacher"),
        (lambda outputs, labels, teacher_outputs, params: 0, "is the student"),
        (lambda student, teacher, mask: 0, "the meaning of mask"),
        (lambda *args: 0, "is the student"),
        (nn.KLDivLoss, "is the student"),
        (F.mse_loss, "is the student"),
        (3, "expected a function"),
    ],
)
def test_what_is_not_known_is_refused_with_the_remedy(loss, told):
    with pytest.raises(ArgumentError, match=told) as caught:
        as_loss(loss)
    assert "call=lambda student, teacher, labels, T:" in str(caught.value)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(ArgumentTypeError, match="expected it to return a tensor, got float"):
        as_loss(lambda s, t: 1.0)(S, T, Y, 1.0)


def test_a_loss_is_imported_by_its_name():
    assert import_loss("support.zoo:by_hand") is zoo.by_hand
    assert import_loss("support.zoo:KDLoss.forward") is zoo.KDLoss.forward


@pytest.mark.parametrize("name", ["support.zoo", "support.zoo:none", "no.such:loss", ":loss", "support.zoo:"])
def test_a_name_of_nothing_is_refused(name):
    with pytest.raises(ArgumentError, match=r"Expected package\.module:loss"):
        import_loss(name)


def test_a_module_that_cannot_be_imported_is_told_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken_losses.py").write_text("raise TypeError('no')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ArgumentError, match=r"^loss: 'broken_losses:kd': importing it fails: TypeError: no\. Expected"):
        import_loss("broken_losses:kd")


def test_a_call_in_text():
    call = call_from_text("loss(student, teacher, labels, T, alpha=0.5)", zoo.by_hand)
    torch.testing.assert_close(call(S, T, Y, 2.0), TRUTH)
    with pytest.raises(ArgumentError, match="expected an expression"):
        call_from_text("loss(student,", zoo.by_hand)
