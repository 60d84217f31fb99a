"""The plan of a search: what it accepts, what it costs, and what its errors name."""

import pytest

from limbeck.errors import ArgumentError
from limbeck.temperature import TEMPERATURES, SearchPlan, Trial


def test_the_cost_is_the_number_of_students():
    assert SearchPlan().cost == 5 * 2 + 2
    assert SearchPlan(seeds=1).cost == 5 + 2
    assert SearchPlan((1.0, 2.0, 3.0)).cost == 2 * 3 + 2
    assert SearchPlan(alphas=(0.5,), divergences=("jsd", "tvd"), policies=("max_logit",)).cost == 12 + 2 * 4


def test_students_are_trained_at_five_temperatures_of_those_to_choose_from():
    assert SearchPlan().trained == (0.25, 1.0, 3.0, 8.0, 20.0)
    assert SearchPlan(tuple(t for t in TEMPERATURES if t >= 0.5)).trained == (0.5, 1.0, 3.0, 8.0, 20.0)
    assert SearchPlan((1.0, 2.0, 4.0, 6.0, 8.0)).trained == (1.0, 4.0, 8.0)
    assert SearchPlan((30.0, 40.0, 50.0, 60.0)).trained == (30.0, 40.0, 50.0, 60.0)  # one alone is near enough


def test_fields_are_sorted_tuples_of_floats():
    plan = SearchPlan([4, 1, 2], alphas=[1], divergences=["jsd"])
    assert plan == SearchPlan((1.0, 2.0, 4.0), 2, (1.0,), ("jsd",))
    assert hash(plan) == hash(SearchPlan((1.0, 2.0, 4.0), 2, (1.0,), ("jsd",)))
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
        ("seeds", 0, "should be greater than or equal to 1, got 0."),
        ("seeds", 2.5, "should be a valid integer, got 2.5."),
        ("alphas", (0.5, 1.5), "should be less than or equal to 1, got 1.5."),
        ("divergences", ("kl",), "expected one of forward_kl, "),
        ("policies", ("hot",), "expected one of linear, "),
    ],
)  # fmt: skip
def test_errors_name_the_field(field, wrong, message):
    with pytest.raises(ArgumentError) as caught:
        SearchPlan(**{field: wrong})
    assert caught.value.argument == field
    assert caught.value.message.startswith(message)


def test_a_trial_can_be_a_key():
    assert {Trial(1.0, 0): 1}[Trial(1.0, 0, None)] == 1
