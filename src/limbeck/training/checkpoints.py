"""What a checkpoint holds beside the Trainer's own files, and which checkpoint is complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

from safetensors.torch import load_file, save_file

from limbeck.temperature import Policy

POLICY_FILE = "temperature.safetensors"


def last_complete_checkpoint(folder: str | Path) -> Path | None:
    """Return the newest checkpoint in ``folder`` that was written to its end.

    The Trainer writes ``trainer_state.json`` last, so a checkpoint in which that file can be read is complete.

    Args:
        folder: the run's ``output_dir``, which holds the folders ``checkpoint-N``.

    Returns:
        The complete checkpoint with the highest N, or None if there is none.
    """
    numbered = []
    for path in Path(folder).glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and _is_complete(path):
            numbered.append((int(match.group(1)), path))
    return max(numbered, default=(0, None))[1]


def save_policy(policy: Policy, checkpoint: str | Path) -> None:
    """Write what a temperature policy has learned into a checkpoint. A policy that learns nothing writes no file.

    It stands beside the optimiser's state, since it belongs to the run and never to the student.

    Args:
        policy: the policy of the run.
        checkpoint: an existing folder.
    """
    state = policy.state_dict()
    if state:
        save_file(state, Path(checkpoint) / POLICY_FILE)


def load_policy(policy: Policy, checkpoint: str | Path) -> None:
    """Read into ``policy`` what ``save_policy`` wrote. A checkpoint without the file changes nothing.

    Args:
        policy: the policy of the run, with the settings that it had when the checkpoint was written.
        checkpoint: the checkpoint's folder.
    """
    path = Path(checkpoint) / POLICY_FILE
    if path.is_file():
        policy.load_state_dict(load_file(path))


def _is_complete(checkpoint: Path) -> bool:
    try:
        return "global_step" in json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
