"""``limbeck check``: its table, its JSON and its exit status."""

import json

from support.command_line import limbeck


def test_a_right_loss_ends_with_0(capsys):
    status, out, _ = limbeck(capsys, "check", "support.zoo:by_hand")
    assert status == 0
    assert "support.zoo:by_hand: 0.9 T² KL(teacher ‖ student) + 0.1 CE, a mean over rows" in out


def test_a_wrong_loss_ends_with_1_and_the_fix(capsys):
    status, out, _ = limbeck(capsys, "check", "support.zoo:no_t_squared")
    assert status == 1
    assert "compensation: Multiply the soft term by T^2: it is missing." in out
    assert limbeck(capsys, "check", "support.zoo:no_t_squared", "--accept", "compensation")[0] == 0


def test_json_call_shape_and_strict(capsys):
    call = "loss(student, teacher, labels, T)"
    options = ("--call", call, "--shape", "5,6", "--strict", "--json")
    status, out, _ = limbeck(capsys, "check", "support.zoo:by_hand", *options)
    read = json.loads(out)
    assert status == 1
    assert {f["property"] for f in read["findings"] if f["verdict"] == "limited"} >= {"minus_infinity", "bfloat16"}


def test_a_fault_of_the_user_ends_with_2_and_a_line(capsys):
    for arguments, told in {
        ("no.such:loss",): "loss: 'no.such:loss': No module named 'no'.",
        ("support.zoo:by_hand", "--shape", "6x7"): "shape: expected sizes with commas",
        ("support.zoo:by_hand", "--accept", "padding_"): "accept: expected one of",
        ("torch.nn.functional:mse_loss",): "loss: mse_loss: cannot tell",
    }.items():
        status, _, err = limbeck(capsys, "check", *arguments)
        assert status == 2
        assert err.startswith(told)
        assert err.count("\n") == 1
