"""What commands print."""

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


def test_lines_and_pairs(capsys):
    print_lines(["one", "two"])
    print_pairs({"page": "report.html", "a": 1})
    assert capsys.readouterr().out == "\none\ntwo\n\npage  report.html\na     1\n"
