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
        ("temperatures", (1.0, 2.0), "expected at least 3 different positive numbers, got [1.0, 2.0]."),
        ("temperatures", (1.0, 2.0, 0.0), "expected at least 3 different positive numbers, got [1.0, 2.0, 0.0]."),
        ("temperatures", (1.0, 1.0, 2.0), "expected at least 3 different positive numbers, got [1.0, 1.0, 2.0]."),
        ("temperatures", (1.0, 2.0, float("inf")), "expected at least 3 different positive numbers, got"),
        ("temperatures", (1.0, 2.0, "3"), "expected at least 3 different positive numbers, got"),
        ("seeds", 1, "expected at least 2, got 1."),
        ("seeds", 2.5, "expected at least 2, got 2.5."),
        ("batches", (3, 0), "expected positive numbers, got [3, 0]."),
        ("batches", (True,), "expected positive numbers, got [True]."),
        ("alphas", (0.5, 1.5), "expected numbers from 0 to 1, got [0.5, 1.5]."),
        ("divergences", ("kl",), "expected names among forward_kl, "),
    ],
)  # fmt: skip
def test_errors_name_the_field(field, wrong, message):
    with pytest.raises(ArgumentError) as caught:
        SearchPlan(**{field: wrong})
    assert caught.value.argument == field
    assert caught.value.message.startswith(message)


def test_a_trial_can_be_a_key():
    assert {Trial(1.0, 0): 1}[Trial(1.0, 0, None)] == 1
