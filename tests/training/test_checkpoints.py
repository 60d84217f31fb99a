"""Checkpoints: the last complete one is found, and a policy's state is saved in it."""

import torch

from limbeck.temperature import policy_from
from limbeck.training import last_complete_checkpoint
from limbeck.training.checkpoints import POLICY_FILE, load_policy, save_policy


def checkpoint(folder, number, content):
    path = folder / f"checkpoint-{number}"
    path.mkdir()
    if content is not None:
        (path / "trainer_state.json").write_text(content)
    return path


def test_the_last_complete_checkpoint_is_the_highest_number_that_can_be_read(tmp_path):
    assert last_complete_checkpoint(tmp_path) is None
    assert last_complete_checkpoint(tmp_path / "missing") is None
    checkpoint(tmp_path, 9, '{"global_step": 9}')
    expected = checkpoint(tmp_path, 10, '{"global_step": 10}')  # if names were sorted as text, 9 would be last
    checkpoint(tmp_path, 11, '{"global_step": 1')
    checkpoint(tmp_path, 12, "{}")
    checkpoint(tmp_path, 13, None)
    checkpoint(tmp_path, "best", '{"global_step": 14}')
    assert last_complete_checkpoint(tmp_path) == expected
    assert last_complete_checkpoint(str(tmp_path)) == expected


def test_the_state_of_a_policy_is_saved_and_loaded(tmp_path):
    policy = policy_from({"policy": "learned", "start": 5.0})
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 1.0
    save_policy(policy, tmp_path)
    again = policy_from({"policy": "learned", "start": 5.0})
    load_policy(again, tmp_path)
    assert again.state_dict() == policy.state_dict()


def test_a_policy_without_state_has_no_file(tmp_path):
    policy = policy_from({"policy": "linear"})
    save_policy(policy, tmp_path)
    assert not (tmp_path / POLICY_FILE).exists()
    load_policy(policy, tmp_path)
