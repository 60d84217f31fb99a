"""Pages are whole, show what they were given, escape it and fetch nothing."""

import pytest
import torch
from torch import nn

from limbeck.config import config_from
from limbeck.data import load_splits
from limbeck.evaluation import ArmResult, Speed
from limbeck.report import (
    Details,
    Explorer,
    Mark,
    choose_rows,
    class_gain_table,
    class_table,
    comparison_figure,
    comparison_table,
    confusion_table,
    differing_examples,
    loss_figure,
    reliability_diagram,
    show_examples,
    soft_target_figure,
    speed_table,
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


@pytest.fixture(scope="module")
def details(splits):
    """Every part that a page can have, of a random teacher and student."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = 3 * torch.randn(2, 400, 10, generator=generator)
    labels, names = splits.test.labels, splits.label_names
    right = {name: (z.argmax(-1) == labels).double().numpy()[None] for name, z in (("s", student), ("t", teacher))}
    rows = choose_rows(Classification(), teacher, student, labels)
    log = [{"step": step, "soft_loss": 1 / step, "hard_loss": 2 / step, "gradient_ratio": 3.0} for step in (1, 2, 3)]
    return Details(
        headline="The whole <b>.",
        losses=loss_figure([*log, {"step": 3, "eval": 1}]),
        reliability=reliability_diagram(labels, {"student": student, "teacher": teacher}),
        class_gains=class_gain_table(names, labels, right, ("s", "t")),
        confusions=confusion_table(names, labels, {"student": student.argmax(-1), "teacher": teacher.argmax(-1)}),
        differing=differing_examples(splits.test, names, teacher, student, labels),
        speed=speed_table({"student": (10, 40)}, [("student", Speed(128, 2.0, 3.0, 9))]),
        explorer=Explorer(names, show_examples(splits.test, rows), teacher[rows], student[rows], [Mark(4.0, "used")]),
        facts=[("data", "digits"), ("command", "limbeck distill <x>")],
    )


PARTS = [
    "What the temperature does", "Training", "Is its confidence honest?", "Each class", "Which classes are confused?",
    "Where student and teacher disagree", "Size and speed", "What ran",
]  # fmt: skip


def test_a_run(splits, details, soft_targets, tmp_path):
    results = {"teacher": TEACHER, "student": {**TEACHER, "agreement": 0.5}}
    write_run_page(
        tmp_path / "page.html", splits=splits, results=results, findings=["Found."], details=details,
        soft_targets=soft_targets,
    )  # fmt: skip
    page = Page(tmp_path / "page.html")
    assert page.headings == ["A distilled student", "Test results", PARTS[0], "Soft targets", *PARTS[1:]]
    assert page.figures == 4  # soft targets, losses, reliability, and the loss over T in the explorer
    assert [row[0] for row in page.tables[0]] == ["", "teacher", "student"]
    assert page.tables[-1] == [["data", "digits"], ["command", "limbeck distill <x>"]]
    assert page.tables[-2][1] == ["student", "10", "4e-05", "128", "2", "3", "9", "64,000"]
    assert {"The whole <b>.", "Found.", *splits.notes} <= set(page.paragraphs)


def test_a_part_that_is_not_known_is_left_out(splits, tmp_path):
    write_run_page(tmp_path / "page.html", splits=splits, results={"student": TEACHER}, findings=[], details=Details())
    page = Page(tmp_path / "page.html")
    assert page.headings == ["A distilled student", "Test results"]
    assert page.figures == 0
    assert "<script" not in (tmp_path / "page.html").read_text()


def test_a_comparison(tmp_path, soft_targets, details):
    table = comparison_table(TEACHER, ARMS)
    shared = dict(
        results=table,
        accuracies=comparison_figure(TEACHER, ARMS),
        caption="400 <i>.",
        findings=["First <b>one</b>.", "Second."],
        classes=class_table({"teacher": {"iou of <sky>": 0.5}}),
    )
    write_comparison_page(tmp_path / "page.html", **shared, details=Details(), soft_targets=soft_targets)
    page = Page(tmp_path / "page.html")
    of_classes = "Intersection over union of each class, %"
    first, *rest = ["Was distillation worth it?", "Test results", "What the numbers say", "Soft targets"]
    assert page.headings == [first, rest[0], of_classes, *rest[1:]]
    assert page.tables == [[list(row) for row in table], [["", "teacher"], ["<sky>", "50.0"]]]  # <b> is text, not a tag
    assert page.paragraphs == ["400 <i>.", "First <b>one</b>.", "Second."]
    assert page.figures == 2
    write_comparison_page(tmp_path / "whole.html", **shared, details=details)
    page = Page(tmp_path / "whole.html")
    assert page.headings == [first, rest[0], of_classes, rest[1], *PARTS]


def test_the_demo(tmp_path, soft_targets):
    omitted = [("student trained on", "3s right, %"), ("hard labels", "0.0")]
    write_demo_page(
        tmp_path / "page.html",
        results=comparison_table(TEACHER, ARMS),
        accuracies=comparison_figure(TEACHER, ARMS),
        caption="On 400.",
        findings=["A finding."],
        details=Details(),
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
