"""Checkpoints: the last whole one is found, and a policy's state is saved in it."""

import json
import shutil

import pytest
import torch

from limbeck.errors import ArgumentError
from limbeck.temperature import policy_from
from limbeck.training import last_complete_checkpoint
from limbeck.training.checkpoints import POLICY_FILE, find_checkpoint, load_beside, save_beside
from support.workbench import make_trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run with the checkpoints 2, 9 and 10."""
    folder = tmp_path_factory.mktemp("run")
    for steps in (9, 10):
        make_trainer(
            "module", folder, save_strategy="steps", save_steps=steps, max_steps=steps, optim="adamw_torch"
        ).train()
    shutil.copytree(folder / "checkpoint-9", folder / "checkpoint-2")
    (folder / "checkpoint-best").mkdir()
    (folder / "checkpoint-30").touch()
    return folder


def test_the_newest_checkpoint_is_the_one_with_the_highest_number(run, tmp_path):
    assert last_complete_checkpoint(str(run)) == run / "checkpoint-10"  # as texts, 9 would be the last
    assert find_checkpoint(run) == (run / "checkpoint-10", [])
    assert last_complete_checkpoint(tmp_path) is None
    assert last_complete_checkpoint(tmp_path / "missing") is None


FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "zeros"])
def test_a_torn_checkpoint_is_passed_over_with_the_file_that_tells(run, tmp_path, name, damage):
    folder = shutil.copytree(run, tmp_path / "run")
    path = folder / "checkpoint-10" / name
    size = path.stat().st_size
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"empty": b"", "cut": (run / "checkpoint-10" / name).read_bytes()[: size // 2], "zeros": bytes(size)}[
                damage
            ]
        )
    whole, (fault,) = find_checkpoint(folder)
    assert whole == folder / "checkpoint-9"
    assert fault.startswith("checkpoint-10: ")
    assert name.split(".")[0] in fault or "weights" in fault


def test_a_run_goes_on_from_the_checkpoint_before_a_torn_one(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "checkpoint-10" / "optimizer.pt").write_bytes(b"PK")
    resumed = make_trainer("module", folder, max_steps=10, optim="adamw_torch")
    with pytest.warns(
        UserWarning, match=r"goes on from checkpoint-9, since .*checkpoint-10: optimizer\.pt is cut short"
    ):
        resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 10


def test_without_a_whole_checkpoint_every_fault_is_named(run, tmp_path):
    for number in (1, 2):
        (tmp_path / f"checkpoint-{number}").mkdir()
    assert find_checkpoint(tmp_path)[1] == [f"checkpoint-{n}: the weights are missing" for n in (2, 1)]
    with pytest.raises(
        ArgumentError, match=r"no complete checkpoint.*checkpoint-2: the weights are missing; checkpoint-1"
    ):
        make_trainer("module", tmp_path).train(resume_from_checkpoint=True)


def test_a_checkpoint_of_the_model_alone_and_one_in_parts_are_whole(run, tmp_path):
    folder = tmp_path / "checkpoint-3"
    shutil.copytree(run / "checkpoint-9", folder)
    for name in FILES[1:4]:
        (folder / name).unlink()
    assert last_complete_checkpoint(tmp_path) == folder
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model_fsdp_0").mkdir()
    assert last_complete_checkpoint(tmp_path) == folder


def test_a_missing_shard_of_the_weights_is_seen(run, tmp_path):
    folder = shutil.copytree(run / "checkpoint-9", tmp_path / "checkpoint-9")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    assert find_checkpoint(tmp_path) == (None, ["checkpoint-9: model-00002-of-00002.safetensors is missing"])


def test_the_state_of_a_policy_is_saved_and_loaded(tmp_path):
    policy = policy_from({"policy": "learned", "start": 5.0})
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 1.0
    save_beside(policy, tmp_path, POLICY_FILE)
    again = policy_from({"policy": "learned", "start": 5.0})
    load_beside(again, tmp_path, POLICY_FILE)
    assert again.state_dict() == policy.state_dict()


def test_a_policy_without_state_has_no_file(tmp_path):
    policy = policy_from({"policy": "linear"})
    save_beside(policy, tmp_path, POLICY_FILE)
    assert not (tmp_path / POLICY_FILE).exists()
    load_beside(policy, tmp_path, POLICY_FILE)
