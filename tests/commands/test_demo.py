"""``limbeck demo`` at small size, and the sentence about the omitted class."""

import pytest

from limbeck.commands.demo import HARD_LABELS, omitted_class_finding, omitted_class_table
from limbeck.evaluation import ArmResult
from support.command_line import limbeck
from support.runs import options


@pytest.mark.slow  # `make demo` runs it too
def test_the_demo_at_small_size(tmp_path, capsys):
    small = options("training.max_steps=20", "teacher.training.max_steps=40", "compare.seeds=1")
    status, out, _ = limbeck(capsys, "demo", "--out", tmp_path / "demo", *small)
    assert status == 0
    assert "Omitted class" in out
    assert {"config.yaml", "report.html", "table.png", "soft_targets.png", "student", "images"} <= {
        path.name for path in (tmp_path / "demo").iterdir()
    }
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "The omitted class: no student ever saw a 3" in page
    status, out, _ = limbeck(capsys, "predict", tmp_path / "demo", tmp_path / "demo" / "images")
    assert len(out.splitlines()) == 10


def arm(name, validation, *, before, after):
    values = {"before": before, "after": after, "all_before": 0.9, "all_after": 0.95, "validation_after": validation}
    return ArmResult(name, {metric: [value, value] for metric, value in values.items()})


def test_the_finding_is_about_the_student_that_validation_prefers():
    omitted = {
        HARD_LABELS: arm(HARD_LABELS, 0.99, before=0.0, after=0.08),
        "soft targets, T = 1": arm("soft targets, T = 1", 0.8, before=0.1, after=0.97),
        "soft targets, T = 8": arm("soft targets, T = 8", 0.9, before=0.2, after=0.81),
    }
    finding = omitted_class_finding(omitted)
    assert "soft targets, T = 8 (chosen on validation) get 20 %, and 81 % once" in finding
    assert finding.endswith("hard labels get 0 % and 8 %.")
    table = omitted_class_table(omitted)
    assert table[0][0] == "student trained on"
    assert table[3] == ("soft targets, T = 8", "20.0", "81.0", "90.0", "95.0")
