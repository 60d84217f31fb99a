"""What a page says of its temperature and of what ran."""

import json

import pytest

from limbeck.commands.command_line import COMMAND, command_line
from limbeck.commands.page_parts import facts_part, marks_of
from limbeck.config import config_from
from limbeck.report import Mark


def config(**distillation):
    values = {"data": {"name": "digits"}, "teacher": {"model": "mlp"}, "student": {"model": "mlp"}}
    return config_from(values | {"distillation": distillation})


@pytest.mark.parametrize(
    ("distillation", "marks", "note"),
    [
        ({"temperature": 3.0}, [Mark(3.0, "used")], ""),
        ({"temperature": 3.0, "alpha": 0.0}, [], "alpha is 0"),
        ({"temperature": {"policy": "cosine", "start": 6, "end": 2}}, [], "the policy cosine set it"),
        ({"temperature": 3.0, "divergence": "jsd"}, [Mark(3.0, "used")], "forward KL; this run minimised another"),
        (
            {"temperature": 3.0, "teacher_temperature": 2.0},
            [Mark(3.0, "used"), Mark(2.0, "used for the teacher")],
            "",
        ),
    ],
)
def test_the_temperature_that_was_used_is_marked(distillation, marks, note, tmp_path):
    found, told = marks_of(config(**distillation), tmp_path)
    assert found == marks
    assert note in told
    assert bool(note) == bool(told)


@pytest.mark.parametrize(("found", "name"), [(3.0, "found by the search"), (2.0, "used")])
def test_a_temperature_that_was_searched_is_told_as_such(found, name, tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "choice.json").write_text(json.dumps({"temperature": found}))
    assert marks_of(config(temperature=3.0), tmp_path)[0] == [Mark(3.0, name)]


def test_what_ran():
    facts = dict(facts_part({"data": "digits"}, [3, 4], 150.0))
    assert (facts["data"], facts["seeds"], facts["duration"]) == ("digits", "3, 4", "2 min")
    assert "torch 2" in facts["versions"]
    assert command_line() == "called from Python"
    token = COMMAND.set(["distill", "a b.yaml"])
    try:
        assert command_line() == "limbeck distill 'a b.yaml'"
    finally:
        COMMAND.reset(token)
