"""The arms of a comparison."""

from limbeck.commands.arms import ALONE, HARD, all_arms


def test_every_student_has_its_baseline():
    assert [arm.name for arm in all_arms([1, 4], has_transfer_set=False)] == [
        "labels alone", "labels + soft targets, T = 1", "labels + soft targets, T = 4",
    ]  # fmt: skip
    arms = all_arms([2], has_transfer_set=True)
    assert {arm.on_transfer_set for arm in arms if arm.temperature is None} == {False, True}
    assert ALONE in arms
    assert HARD in arms
    assert len({arm.name for arm in arms}) == len(arms) == 4
