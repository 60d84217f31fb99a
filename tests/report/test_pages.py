"""Pages are whole, show what they were given, escape it and fetch nothing."""

import pytest
import torch
from torch import nn

from limbeck.config import config_from
from limbeck.data import load_splits
from limbeck.evaluation import ArmResult
from limbeck.report import (
    class_table,
    comparison_figure,
    comparison_table,
    soft_target_figure,
    write_analysis_page,
    write_comparison_page,
    write_demo_page,
    write_run_page,
    write_search_page,
)
from limbeck.tasks import Classification
from limbeck.temperature.analysis import analyze
from support.pages import Page

TEACHER = {"parameters": 1000, "accuracy": 0.9, "nll": 0.3, "calibration_error": 0.01, "milliseconds_per_batch": 1.0}
ARMS = {
    name: ArmResult(name, {metric: [value, value / 2] for metric, value in TEACHER.items()})
    for name in ("labels alone", "labels + soft <b>targets</b>, T = 1")
}


@pytest.fixture(scope="module")
def splits():
    values = {"data": {"name": "digits"}, "teacher": {"model": "mlp"}, "student": {"model": "mlp"}}
    return load_splits(config_from(values).data, seed=0)


@pytest.fixture(scope="module")
def soft_targets():
    return soft_target_figure(
        Classification(), torch.rand(1, 1, 4, 4), torch.randn(1, 3), ["a", "<i>", "c"], [1.0, 4.0]
    )


def test_a_run(splits, tmp_path):
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    log = [{"step": step, "soft_loss": 1 / step, "hard_loss": 2 / step} for step in (1, 2, 3)] + [
        {"step": 3, "eval": 1}
    ]
    distillation = {"temperature": {"policy": "<b>", "start": 8}, "alpha": 0.9}
    results = {"teacher": TEACHER, "student": {**TEACHER, "agreement": 0.5}}
    write_run_page(
        tmp_path / "page.html", splits=splits, results=results, findings=["Found."], distillation=distillation, log=log,
        teacher=teacher,
    )  # fmt: skip
    page = Page(tmp_path / "page.html")
    assert page.headings == ["A distilled student", "Test results", "Training", "Settings", "Soft targets"]
    assert page.figures == 2
    measured, settings = page.tables
    assert [row[0] for row in measured] == ["", "teacher", "student"]
    assert settings == [["setting", "value"], ["temperature", "{'policy': '<b>', 'start': 8}"], ["alpha", "0.9"]]
    assert {"Found.", *splits.notes} <= set(page.paragraphs)


def test_a_run_without_a_live_teacher_or_a_log(splits, tmp_path):
    write_run_page(
        tmp_path / "page.html", splits=splits, results={"student": TEACHER}, findings=[], distillation={"alpha": 1.0}, log=[],
        teacher=None,
    )  # fmt: skip
    page = Page(tmp_path / "page.html")
    assert page.headings == ["A distilled student", "Test results", "Settings"]
    assert page.figures == 0


def test_a_comparison(tmp_path, soft_targets):
    table = comparison_table(TEACHER, ARMS)
    shared = dict(
        results=table,
        accuracies=comparison_figure(TEACHER, ARMS),
        caption="400 <i>.",
        findings=["First <b>one</b>.", "Second."],
        classes=class_table({"teacher": {"iou of <sky>": 0.5}}),
    )
    write_comparison_page(tmp_path / "page.html", **shared, soft_targets=soft_targets)
    page = Page(tmp_path / "page.html")
    of_classes = "Intersection over union of each class, %"
    first, *rest = ["Was distillation worth it?", "Test results", "What the numbers say", "Soft targets"]
    assert page.headings == [first, rest[0], of_classes, *rest[1:]]
    assert page.tables == [[list(row) for row in table], [["", "teacher"], ["<sky>", "50.0"]]]  # <b> is text, not a tag
    assert page.paragraphs == ["400 <i>.", "First <b>one</b>.", "Second."]
    assert page.figures == 2
    write_comparison_page(tmp_path / "text.html", **shared, soft_targets=None)
    page = Page(tmp_path / "text.html")
    assert page.paragraphs[-1] == "Shown for images only."
    assert page.figures == 1


def test_the_demo(tmp_path, soft_targets):
    omitted = [("student trained on", "3s right, %"), ("hard labels", "0.0")]
    write_demo_page(
        tmp_path / "page.html",
        results=comparison_table(TEACHER, ARMS),
        accuracies=comparison_figure(TEACHER, ARMS),
        caption="On 400.",
        findings=["A finding."],
        soft_targets=soft_targets,
        omitted_class=3,
        omitted_results=omitted,
        omitted_finding="Another.",
    )
    page = Page(tmp_path / "page.html")
    assert page.headings == [
        "Limbeck's demo: digits", "Test results", "What the numbers say", "The omitted class: no student ever saw a 3",
        "Soft targets",
    ]  # fmt: skip
    assert page.tables[1] == [list(row) for row in omitted]
    assert page.paragraphs == ["On 400.", "A finding.", "Another."]


def test_a_search(choice, tmp_path):
    write_search_page(tmp_path / "page.html", choice=choice, lines=["T = 3.", "6 trainings."])
    page = Page(tmp_path / "page.html")
    assert page.headings == ["Which temperature?", "Search"]
    assert page.paragraphs == ["T = 3.", "6 trainings."]
    assert page.figures == 1


@pytest.fixture(scope="module")
def logits():
    """Of 40 examples, too sure of 5 classes: the labels agree with 3 in 4."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (40,), generator=generator)
    shown = torch.where(torch.arange(40) % 4 > 0, labels, (labels + 1) % 5)
    return 12.0 * nn.functional.one_hot(shown, 5) + torch.randn(40, 5, generator=generator), labels


def test_an_analysis(logits, tmp_path):
    values, labels = logits
    found = analyze(values, labels, views=torch.stack([values, values + torch.randn(40, 5)]), temperatures=[1, 4])
    assert found.calibration.temperature > 1.05
    write_analysis_page(tmp_path / "page.html", found)
    page = Page(tmp_path / "page.html")
    assert page.headings == [
        "What each temperature does", "Which temperatures are worth trying?",
        "All numbers", "How soft are the targets?", "Where does the soft gradient pull?",
        "How strong is the soft gradient?", "Is the teacher honest?", "How reliable is each negative label?",
    ]  # fmt: skip
    assert page.figures == 4
    assert len(page.tables[0]) == 1 + 2
    honest = next(paragraph for paragraph in page.paragraphs if "NLL" in paragraph)
    assert honest.endswith("The teacher is too sure of itself.")
    assert f"by {found.calibration.temperature:.2f} makes" in honest
    assert f"NLL {found.calibration.nll_before:.3f} before and {found.calibration.nll_after:.3f} after" in honest
    assert any("Near 5, they say nothing" in paragraph for paragraph in page.paragraphs)


def test_an_analysis_without_labels_or_views(logits, tmp_path):
    write_analysis_page(tmp_path / "page.html", analyze(logits[0], temperatures=[1, 4]))
    page = Page(tmp_path / "page.html")
    assert "Is the teacher honest?" not in page.headings
    assert page.figures == 3
    assert page.paragraphs[-1].startswith("Not measured: there is one view of each example.")
