"""The temperature explorer: its bars are those of the reference, as they are written and as its script moves them."""

import json
import math
import re

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from limbeck.losses import sigmoid_distillation_loss
from limbeck.losses.divergences import ForwardKL
from limbeck.losses.reference import hard_rows, soft_rows
from limbeck.report import Explorer, Mark, Shown, choose_rows, write_explorer_page
from limbeck.tasks import Classification, MultiLabel
from support.browser import open_in_browser
from support.pages import Page


def explorer(classes=5, **settings):
    """Return an explorer of 8 random examples. Absent classes, close models and certain ones are among them."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = 4 * torch.randn(2, 8, classes, generator=generator)
    student[1] = teacher[1] + 1e-3
    teacher[2] *= 10
    teacher[3, 0] = student[3, 0] = -torch.inf
    labels = [None if i == 0 else (i % 3, 4) if settings.get("family") == "sigmoid" else (i % 3,) for i in range(8)]
    shown = [Shown(f"Test example {i}", labels[i], text="</script><b>") for i in range(8)]
    names = [f"class <{i}>" for i in range(classes)]
    settings = {"marks": [Mark(4.0, "used"), Mark(9.0, "noise above")], "steady": 2, **settings}
    return Explorer(names, shown, teacher, student, **settings)


def reference(found, row, temperature, factor):
    """Return the soft targets of both models, the gradient and the loss of an example, in float64."""
    z_t, z_s = found.teacher[row].double(), found.student[row].double().requires_grad_()
    if found.family == "sigmoid":
        options = {"temperature": temperature, "alpha": 1.0, "compensate": False, "reduction": "sum"}
        loss = factor * sigmoid_distillation_loss(z_s[None], z_t[None], **options)
    else:
        loss = factor * soft_rows(z_s[None], z_t[None], ForwardKL(), temperature, temperature).sum()
    (gradient,) = torch.autograd.grad(loss, z_s)
    teacher, student = (
        (z / temperature).sigmoid() if found.family == "sigmoid" else (z / temperature).softmax(-1)
        for z in (z_t, z_s.detach())
    )
    return {"teacher": teacher, "student": student, "gradient": gradient, "loss": loss.item()}


@pytest.mark.parametrize("row", [0, 1, 2, 3])
@pytest.mark.parametrize("temperature", [0.25, 1.0, 20.0])
@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_the_bars_are_those_of_the_reference(row, temperature, family):
    found = explorer(family=family)
    expected = reference(found, row, temperature, temperature**2)
    for key in ("teacher", "student", "gradient"):
        bars = torch.tensor([getattr(bar, key) for bar in found.bars_at(row, temperature)], dtype=torch.float64)
        torch.testing.assert_close(bars, expected[key], rtol=0, atol=1e-9)
    order = found.teacher[row].argsort(descending=True).tolist()
    noise = {bar.name for bar in found.bars_at(row, temperature) if bar.is_noise}
    assert noise == {found.classes[i] for i in order[3:]}  # the first, and two steady negative ranks


def test_of_many_classes_the_first_have_a_bar_and_the_others_share_one():
    found = explorer(classes=50)
    last = int(found.teacher[0].argmin())
    found.student[0, last] = 99.0
    bars = found.bars_at(0, 2.0)
    assert [bar.name for bar in bars][-1] == "38 others"
    assert found.classes[last] in [bar.name for bar in bars]  # what the student decides is among them
    assert all(found.shown[row].labels[0] in found.bars_of(row) for row in range(1, 8))
    assert all(len(found.bars_of(row)) == 12 for row in range(8))
    for key, total in (("teacher", 1), ("student", 1), ("gradient", 0)):
        assert math.isclose(sum(getattr(bar, key) for bar in bars), total, abs_tol=1e-9)
    assert len(explorer(classes=50, family="sigmoid").bars_at(0, 2.0)) == 12  # probabilities that do not sum to 1


def test_which_examples_are_chosen():
    teacher = torch.tensor([[9.0, 0], [0, 8], [0.1, 0], [9, 0], [9, 0], [9, 0]])
    student = torch.tensor([[0.0, 9], [9, 0], [1, 0], [9, 0], [9, 0], [9, 0]])
    labels = torch.tensor([0, 0, 0, 0, 0, 0])
    assert choose_rows(Classification(), teacher, student, labels, count=3).tolist()[:2] == [
        0,
        2,
    ]  # at 1 the teacher is wrong
    assert choose_rows(Classification(), teacher, student, None, count=3).tolist()[:2] == [0, 2]
    assert sorted(choose_rows(Classification(), teacher, student, labels, count=9).tolist()) == list(range(6))
    several = torch.tensor([[1, 0], [1, 1], [0, 0], [1, 0], [1, 0], [1, 0]])
    assert choose_rows(MultiLabel(), teacher - 0.5, student - 0.5, several, count=3).tolist()[:2] == [0, 2]


def test_the_page_without_its_script(tmp_path):
    write_explorer_page(tmp_path / "page.html", explorer(), ["A line."])
    page = Page(tmp_path / "page.html")
    assert page.paragraphs[0] == "A line."
    assert [row[0] for row in page.tables[0][1:]] == [f"class <{i}> label" for i in range(5)]
    held = re.search(r'<script type="application/json">(.*?)</script>', (tmp_path / "page.html").read_text())[1]
    data = json.loads(held)
    assert data["examples"][3]["teacher"][0] is None  # JSON has no infinity
    assert (data["start"], data["steady"]) == (4.0, 2)
    assert explorer(marks=[]).start == 4.0
    assert explorer(marks=[Mark(99.0, "used")]).start == 20.0


@pytest.mark.slow
@pytest.mark.parametrize("family", ["softmax", "sigmoid"])
def test_in_a_browser(tmp_path, family):
    found = explorer(notes=["A note."], family=family, steady=2 if family == "softmax" else None)
    write_explorer_page(tmp_path / "page.html", found, ["A line."])
    with open_in_browser(tmp_path / "page.html", dark=True, width=380) as browser:

        def read():
            return browser.execute_script(
                "const value = (one) => Number(one.dataset.value);"
                "const rows = [...document.querySelectorAll('.bars tbody tr')];"
                "return {bars: rows.map((row) => [...row.querySelectorAll('td')].map(value)),"
                "  names: rows.map((row) => row.querySelector('span').textContent),"
                "  told: Object.fromEntries([...document.querySelectorAll('output')].map((o) => [o.dataset.what, value(o)]))}"
            )

        def check(row, factor=None):
            shown = read()
            t = shown["told"]["temperature"]
            expected = reference(found, row, t, t**2 if factor is None else factor)
            bars = torch.tensor(shown["bars"], dtype=torch.float64)
            for column, key in enumerate(("teacher", "student", "gradient")):
                torch.testing.assert_close(bars[:, column], expected[key], rtol=0, atol=1e-6)
            assert shown["told"]["loss"] == pytest.approx(expected["loss"], rel=1e-6, abs=1e-6)
            assert shown["told"]["norm"] == pytest.approx(expected["gradient"].norm().item(), abs=1e-6)
            assert shown["names"] == list(found.classes)
            return t, shown["told"]["hard"]

        slider = browser.find_element("id", "explorer-slider")
        assert check(0)[0] == 4.0  # the temperature that was used
        for place in (0, 0.5, 1):
            browser.execute_script(
                "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, place
            )
            t, _ = check(0)
            assert t == pytest.approx(0.25 * 80**place)
        slider.send_keys("\ue012" * 5)  # the left arrow
        assert check(0)[0] < 20
        for row, radio in enumerate(browser.find_elements("css selector", "input[type=radio]")):
            browser.execute_script("arguments[0].click()", radio)
            _, hard = check(row)
            if row not in (0, 3):  # the first has no label; the label of the other is an absent class
                logits = found.student[row : row + 1].double()
                if family == "softmax":
                    expected = hard_rows(logits, torch.tensor([row % 3]), None, 0.0)
                else:
                    there = torch.zeros_like(logits)
                    there[0, [row % 3, 4]] = 1
                    expected = binary_cross_entropy_with_logits(logits, there, reduction="sum")
                assert hard == pytest.approx(expected.item(), abs=1e-6)
        for button, t in zip(browser.find_elements("css selector", "button"), (1, 4, 9), strict=True):
            browser.execute_script("arguments[0].click()", button)
            assert check(7)[0] == t
        browser.execute_script("arguments[0].click()", browser.find_element("css selector", "input[type=checkbox]"))
        check(7, factor=1.0)
        wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]  # a narrow screen need not be scrolled sideways
        background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", background)[:3])) < 200  # dark
        assert browser.get_log("browser") == []
