"""Tables show every metric in its unit, and errors where they are known."""

import dataclasses

import numpy as np
import pytest
import torch

from limbeck.data import DataConfig, load_splits
from limbeck.evaluation import ArmResult, Estimate
from limbeck.report import comparison_table, metrics_table, table_caption
from limbeck.report.tables import COLUMNS
from limbeck.tasks import TASKS

METRICS = {
    "parameters": 4810, "accuracy": 0.98765, "nll": 0.04321, "calibration_error": 0.0123, "milliseconds_per_batch": 0.0449,
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_columns_are_in_the_order_of_each_task(task):
    assert [metric for metric in COLUMNS if metric in task.columns] == list(task.columns)


def test_metrics_in_their_units():
    header, teacher, student = metrics_table({"teacher": METRICS, "a student": {**METRICS, "agreement": 0.5}})
    assert header == ("", "parameters", "accuracy, %", "NLL", "calibration error, %", "agreement, %", "ms / batch")
    assert teacher == ("teacher", "4,810", "98.8", "0.043", "1.2", "", "0.04")
    assert student == ("a student", "4,810", "98.8", "0.043", "1.2", "50.0", "0.04")


def test_errors_where_they_include_the_test_sets():
    rows = np.array([[1.0] * 90 + [0.0] * 10, [1.0] * 92 + [0.0] * 8])
    arm = ArmResult(
        "arm", {**{name: [value] * 2 for name, value in METRICS.items()}, "nll": [0.25, 0.35]}, {"accuracy": rows}
    )
    header, teacher, row = comparison_table(METRICS, {"arm": arm})
    assert (teacher[0], row[0]) == ("teacher", "arm")
    error = 100 * Estimate.of_examples(rows).error
    assert row[header.index("accuracy, %")] == f"91.0 ± {error:.1f}"
    assert row[header.index("NLL")] == "0.300"
    assert row[header.index("parameters")] == "4,810"


@pytest.mark.parametrize(
    ("seeds", "says"), [(1, "1 seed; 100 labels. One seed gives no"), (3, "3 seeds; 100 labels. ± is")]
)
def test_a_caption_names_examples_seeds_and_labels(seeds, says):
    splits = load_splits(DataConfig())
    assert table_caption(splits, seeds, "100 labels").startswith(f"400 test examples; {says}")
    hidden = splits.test.with_labels(torch.full_like(splits.test.labels, -100))
    unlabelled = dataclasses.replace(splits, test=hidden)
    assert "400 test examples without labels, where students are compared by" in table_caption(unlabelled, seeds, "")
