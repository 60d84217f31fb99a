"""What commands print."""

import contextlib
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from limbeck.commands.printing import print_lines, print_pairs, print_prediction, print_table
from limbeck.inference import Prediction


def test_a_table_lines_up(capsys):
    print_table("Results", [("", "accuracy, %"), ("teacher", "98.5"), ("a student", "")])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Results",
        "           accuracy, %",
        "teacher           98.5",
        "a student",
    ]


@given(name=st.text())
def test_a_row_is_a_line_whatever_a_class_is_called(name):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_table("Results", [("class", "n"), (name, "1")])
    assert len(out.getvalue().splitlines()) == 4


def test_lines_and_pairs(capsys):
    print_lines([])
    print_lines(["one", "two"])
    print_pairs({"page": "report.html", "a": 1})
    assert capsys.readouterr().out == "\none\ntwo\n\npage  report.html\na     1\n"


def test_a_text_that_is_empty_is_told(capsys):
    print_prediction(Prediction("a b", "", teacher=""), as_json=False)
    print_prediction(Prediction("a b", "", {"x": 0.25}), as_json=False)  # of several labels, none
    print_prediction(Prediction("a b", "c", teacher="d"), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["a b\t(nothing)\tteacher: (nothing)", "a b\t\tx 0.250", "a b\tc\tteacher: d"]
    print_prediction(Prediction("a b", "", teacher=""), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"input": "a b", "label": "", "teacher": ""}
