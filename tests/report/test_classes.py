"""What a page tells about single classes and examples, against counts by hand."""

import numpy as np
import pytest
import torch

from limbeck.data import Examples, TensorRows
from limbeck.report import class_gain_table, confusion_table, differing_examples, reliability_diagram

NAMES = ["cat", "dog", "owl"]
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, -100])


def test_the_gain_of_each_class_with_its_error():
    first, second = np.array([[1, 1, 1, 0, 1, 1, 0]]), np.array([[1, 0, 0, 0, 1, 1, 0]])
    header, cat, dog = class_gain_table(NAMES, LABELS, {"student": first, "teacher": second}, ("student", "teacher"))
    assert header == ("class", "test examples", "student, %", "teacher, %", "student over teacher, points")
    error = 100 * np.std([0, 1, 1, 0], ddof=1) / 2
    assert cat == ("cat", "4", "75.0", "25.0", f"+50.0 ± {error:.1f}")
    assert dog == ("dog", "2", "100.0", "100.0", "+0.0 ± 0.0")


def test_of_many_classes_those_that_differ_most_are_told():
    labels = torch.arange(30).repeat(2)
    first = np.zeros((1, 60))
    first[0, 25] = 1
    header, *rows = class_gain_table([f"c{i}" for i in range(30)], labels, {"a": first, "b": 0 * first}, ("a", "b"))
    assert header[0] == "class (the 20 of 30 that differ most)"
    assert len(rows) == 20
    assert ("c25", "2", "50.0", "0.0", "+50.0 ± 50.0") in rows


def test_confusions_are_counted():
    student, teacher = torch.tensor([0, 1, 1, 2, 1, 0, 0]), torch.tensor([1, 0, 0, 0, 1, 1, 0])
    header, *rows = confusion_table(NAMES, LABELS, {"student": student, "teacher": teacher})
    assert header == ("label", "taken for", "student, times", "teacher, times")
    assert rows == [("cat", "dog", "2", "1"), ("cat", "owl", "1", "0"), ("dog", "cat", "1", "0")]
    assert confusion_table(NAMES, LABELS, {"student": LABELS}) == []


def test_where_both_are_most_certain_comes_first():
    examples = Examples(TensorRows("pixel_values", torch.rand(3, 1, 4, 4)), torch.tensor([1, 0, 2]))
    teacher = torch.tensor([[0.0, 2, 0], [5, 0, 0], [0, 0, 9.0]])
    student = torch.tensor([[2.0, 0, 0], [0, 5, 0], [0, 0, 9.0]])
    first, second = differing_examples(examples, NAMES, teacher, student, examples.labels)
    assert (first.label, first.teacher, first.student) == ("cat", "cat (99 %)", "dog (99 %)")
    assert (second.label, second.shown.title) == ("dog", "Test example 0")
    assert differing_examples(examples, NAMES, teacher, student, None)[0].label == ""
    assert differing_examples(examples, NAMES, teacher, teacher, None) == []


def test_the_reliability_diagram_has_the_share_of_right_answers():
    logits = torch.tensor([0.75, 0.25]).log().repeat(20, 1)  # sure of the first class by 75 %
    labels = (torch.arange(20) >= 12).long()  # right on 12 of 20
    above, below = reliability_diagram(labels, {"student": logits}).axes
    (x,), (y,) = above.containers[0].lines[0].get_data()
    assert (x, y) == pytest.approx((0.75, 0.6))
    assert [bar.get_height() for bar in below.containers[0]] == [0, 0, 0, 0, 0, 0, 0, 20, 0, 0]
