"""Tables show every metric in its unit, and errors where they are known."""

import pytest

from limbeck.evaluation import ArmResult
from limbeck.report import comparison_table, metrics_table

METRICS = {
    "parameters": 4810, "accuracy": 0.98765, "nll": 0.04321, "calibration_error": 0.0123, "milliseconds_per_batch": 0.0449,
}  # fmt: skip


def test_metrics_in_their_units():
    header, teacher, student = metrics_table({"teacher": METRICS, "a student": {**METRICS, "agreement": 0.5}})
    assert header == ("", "parameters", "accuracy, %", "NLL", "calibration error, %", "agreement, %", "ms / batch")
    assert teacher == ("teacher", "4,810", "98.8", "0.043", "1.2", "", "0.04")
    assert student == ("a student", "4,810", "98.8", "0.043", "1.2", "50.0", "0.04")


@pytest.mark.parametrize(("accuracies", "shown"), [([0.9], "90.0"), ([0.9, 0.92], "91.0 ± 1.0")])
def test_errors_over_seeds(accuracies, shown):
    arm = ArmResult(
        "arm", {**{name: [value] * len(accuracies) for name, value in METRICS.items()}, "accuracy": accuracies}
    )
    header, teacher, row = comparison_table(METRICS, {"arm": arm})
    assert (teacher[0], row[0]) == ("teacher", "arm")
    assert row[header.index("accuracy, %")] == shown
    assert row[header.index("parameters")] == "4,810"  # the number of parameters has no error
