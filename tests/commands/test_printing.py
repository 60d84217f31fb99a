"""What commands print."""

import contextlib
import io

from hypothesis import given
from hypothesis import strategies as st

from limbeck.commands.printing import print_lines, print_pairs, print_table


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
