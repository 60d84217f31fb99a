"""The arms of a comparison."""

from limbeck.commands.arms import ALONE, HARD, all_arms, arms_of_numbers


def test_every_student_has_its_baseline():
    assert [arm.name for arm in all_arms([1, 4], has_transfer_set=False)] == [
        "labels alone", "labels + soft targets, T = 1", "labels + soft targets, T = 4",
    ]  # fmt: skip
    arms = all_arms([2], has_transfer_set=True)
    assert {arm.on_transfer_set for arm in arms if arm.temperature is None} == {False, True}
    assert ALONE in arms
    assert HARD in arms
    assert len({arm.name for arm in arms}) == len(arms) == 4


def test_numbers_have_no_temperature():
    arms = arms_of_numbers("cosine", has_labels=True, has_transfer_set=True)
    assert [(arm.has_teacher, arm.on_transfer_set) for arm in arms] == [(False, False), (True, False), (True, True)]
    assert {arm.distance for arm in arms if arm.has_teacher} == {"cosine"}
    assert (
        arms_of_numbers("mse", has_labels=True, has_transfer_set=False)
        == arms_of_numbers("mse", has_labels=True, has_transfer_set=True)[:2]
    )
    embeddings = arms_of_numbers("mse", has_labels=False, has_transfer_set=False)
    assert [arm.distance for arm in embeddings] == ["mse", "cosine"]
    assert all(arm.temperature is None and arm.has_teacher for arm in embeddings)
