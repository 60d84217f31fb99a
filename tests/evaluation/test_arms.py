"""Arms over seeds, and how sure a difference is."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.evaluation import ArmResult, Estimate, Measured, difference, train_arms
from limbeck.interruption import Interrupted


def test_a_difference_is_paired_by_seed():
    values = [0.9, 0.92, 0.95, 0.91]
    paired = difference(ArmResult("a", {"x": values}), ArmResult("b", {"x": [v - 0.1 for v in values]}), "x")
    assert paired.mean == pytest.approx(0.1)
    assert paired.error == pytest.approx(0, abs=1e-12)


def test_a_difference_is_paired_by_example_where_examples_are_known():
    rows = (np.random.default_rng(0).random((2, 2, 50)) < 0.8).astype(float)
    one, other = (ArmResult(n, {"x": list(r.mean(1))}, {"x": r}) for n, r in zip("ab", rows, strict=True))
    assert difference(one, other, "x") == Estimate.of_examples(rows[0] - rows[1])
    assert one["x"] == Estimate.of_examples(rows[0])
    same = difference(one, one, "x")
    assert (same.mean, same.error, same.is_clear) == (0, 0, False)


def test_every_arm_is_trained_with_every_seed():
    calls = []

    def run(arm, seed):
        calls.append((arm, seed))
        return Measured({"accuracy": seed + len(arm)})

    results = train_arms(["a", "bb"], [1, 2], run)
    assert sorted(calls) == [("a", 1), ("a", 2), ("bb", 1), ("bb", 2)]
    assert results["bb"].metrics == {"accuracy": [3, 4]}


def test_what_is_recorded_is_not_trained_again(tmp_path):
    record, calls = tmp_path / "arms.jsonl", []

    def run(arm, seed):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append((arm, seed))
        return Measured({"accuracy": seed + len(arm)})

    with pytest.raises(KeyboardInterrupt):
        train_arms(["a", "bb"], [1, 2], run, record=record)
    rest = []
    results = train_arms(["a", "bb"], [1, 2], lambda *a: rest.append(a) or Measured({"accuracy": 0.5}), record=record)
    assert calls == [("a", 1), ("bb", 1), ("a", 2)]
    assert rest == [("bb", 2)]
    assert results["bb"].metrics == {"accuracy": [3, 0.5]}


ROWS = st.lists(st.sampled_from([0.0, 1.0]), min_size=11, max_size=11) | st.lists(
    st.sampled_from([0.0, 1 / 3]), min_size=11, max_size=11
)


@given(rows=st.lists(ROWS, min_size=2, max_size=3))
def test_the_examples_of_a_resumed_comparison_are_those_of_the_first(rows, tmp_path_factory):
    record = tmp_path_factory.mktemp("record") / "arms.jsonl"

    def run(arm, seed):
        return Measured({"accuracy": float(np.mean(rows[seed]))}, {"accuracy": np.array(rows[seed])})

    first = train_arms(["a"], range(len(rows)), run, record=record)["a"]
    again = train_arms(["a"], range(len(rows)), lambda *_: pytest.fail("trained again"), record=record)["a"]
    assert again.metrics == first.metrics
    np.testing.assert_array_equal(again.by_example["accuracy"], rows)


def test_a_record_without_examples_is_of_an_older_version_and_not_used(tmp_path):
    record = tmp_path / "arms.jsonl"
    record.write_text(json.dumps({"arm": "a", "seed": 0, "metrics": {"accuracy": 0.1}}) + "\n")
    assert train_arms(["a"], [0], lambda *_: Measured({"accuracy": 0.5}), record=record)["a"].metrics == {
        "accuracy": [0.5]
    }


def test_who_stops_a_comparison_is_told_what_is_finished(tmp_path):
    def run(arm, seed):
        if arm == "bb":
            raise Interrupted(2)
        return Measured({"accuracy": 1.0})

    with pytest.raises(Interrupted) as caught:
        train_arms(["a", "bb"], [1, 2], run, record=tmp_path / "arms.jsonl")
    assert caught.value.finished == "1 of 4 students are finished and kept."
