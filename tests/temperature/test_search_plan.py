"""The plan of a search: what it accepts, what it costs, and what its errors name."""

import pytest

from limbeck.errors import ArgumentError
from limbeck.temperature import TEMPERATURES, SearchPlan, Trial


def test_the_cost_is_the_number_of_students():
    assert SearchPlan().cost == 5 + 2 + 3 + 2  # every second of ten, two without a teacher, and two rounds
    assert SearchPlan((1.0, 2.0, 3.0), batches=(1,)).cost == 2 + 2 + 1
    assert SearchPlan(alphas=(0.5,), divergences=("jsd", "tvd")).cost == 12 + 2 * 3


def test_fields_are_sorted_tuples_of_floats():
    plan = SearchPlan([4, 1, 2], batches=[2], alphas=[1], divergences=["jsd"])
    assert plan == SearchPlan((1.0, 2.0, 4.0), 3, (2,), (1.0,), ("jsd",))
    assert hash(plan) == hash(SearchPlan((1.0, 2.0, 4.0), 3, (2,), (1.0,), ("jsd",)))
    assert all(type(t) is float for t in plan.temperatures)
    assert SearchPlan().temperatures == TEMPERATURES == tuple(sorted(TEMPERATURES))


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        ("temperatures", (1.0, 2.0), "should be at least 3 different numbers, got (1.0, 2.0)."),
        ("temperatures", (1.0, 2.0, 0.0), "should be greater than 0, got 0.0."),
        ("temperatures", (1.0, 1.0, 2.0), "should be at least 3 different numbers, got (1.0, 1.0, 2.0)."),
        ("temperatures", (1.0, 2.0, 3.0, 3), "should be at least 3 different numbers, got"),
        ("temperatures", (1.0, 2.0, float("inf")), "should be a finite number, got inf."),
        ("temperatures", (1.0, 2.0, "3"), "should be a valid number, got '3'."),
        ("seeds", 1, "should be greater than or equal to 2, got 1."),
        ("seeds", 2.5, "should be a valid integer, got 2.5."),
        ("batches", (3, 0), "should be greater than 0, got 0."),
        ("batches", (True,), "should be a valid integer, got True."),
        ("alphas", (0.5, 1.5), "should be less than or equal to 1, got 1.5."),
        ("divergences", ("kl",), "expected one of forward_kl, "),
    ],
)  # fmt: skip
def test_errors_name_the_field(field, wrong, message):
    with pytest.raises(ArgumentError) as caught:
        SearchPlan(**{field: wrong})
    assert caught.value.argument == field
    assert caught.value.message.startswith(message)


def test_a_trial_can_be_a_key():
    assert {Trial(1.0, 0): 1}[Trial(1.0, 0, None)] == 1
