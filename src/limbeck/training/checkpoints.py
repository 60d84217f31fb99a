"""What a checkpoint holds beside the Trainer's own files, and which checkpoint is complete."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerState

POLICY_FILE = "temperature.safetensors"
PROJECTOR_FILE = "projector.safetensors"
HIDDEN_FILE = "hidden_states.safetensors"
OF_THE_RUN = frozenset({POLICY_FILE, PROJECTOR_FILE, HIDDEN_FILE})
"""The files of what a run learns beside the student."""


def last_complete_checkpoint(folder: str | Path) -> Path | None:
    """Return the newest checkpoint in ``folder`` that can be read to its end.

    Args:
        folder: the run's ``output_dir``, which holds the folders ``checkpoint-N``.

    Returns:
        The complete checkpoint with the highest N, or None if there is none.
    """
    return find_checkpoint(folder)[0]


def find_checkpoint(folder: str | Path) -> tuple[Path | None, list[str]]:
    """Return the newest complete checkpoint, and what is wrong with those that are newer.

    Args:
        folder: the run's ``output_dir``, which holds the folders ``checkpoint-N``.

    Returns:
        The checkpoint, or None if there is none; and one text for each newer checkpoint, such as "checkpoint-20:
        model.safetensors is missing".
    """
    numbered = [
        (int(match[1]), path)
        for path in Path(folder).glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
    ]
    faults = []
    for _, path in sorted(numbered, reverse=True):
        fault = _fault(path)
        if fault is None:
            return path, faults
        faults.append(f"{path.name}: {fault}")
    return None, faults


def load_if_finished(trainer: Trainer, checkpoint: str | Path) -> bool:
    """Take the weights and the log of a checkpoint whose training is finished.

    The Trainer would take one more step from such a checkpoint.

    Args:
        trainer: the trainer of the same run.
        checkpoint: the checkpoint's folder.

    Returns:
        False if there are steps left to take; then the trainer is as it was.
    """
    state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return False
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = state
    return True


def save_beside(module: nn.Module, checkpoint: str | Path, name: str) -> None:
    """Write what a run learns beside the student into a checkpoint. A module that learns nothing writes no file.

    It stands beside the optimiser's state, since it belongs to the run and never to the student.

    Args:
        module: the temperature policy of the run, or the projector of its embeddings.
        checkpoint: an existing folder.
        name: the file's name, one of ``OF_THE_RUN``.
    """
    state = module.state_dict()
    if state:
        save_file(state, Path(checkpoint) / name)


def load_beside(module: nn.Module, checkpoint: str | Path, name: str) -> None:
    """Read into a module what ``save_beside`` wrote. A checkpoint without the file changes nothing.

    Args:
        module: the module of the run, with the settings that it had when the checkpoint was written.
        checkpoint: the checkpoint's folder.
        name: the file's name.
    """
    path = Path(checkpoint) / name
    if path.is_file():
        module.load_state_dict(load_file(path))


def _fault(checkpoint: Path) -> str | None:
    """Return what is missing from a checkpoint or broken in it, or None if it is whole.

    The Trainer writes the weights first, then the optimiser, and ``trainer_state.json`` last.
    """
    for path in sorted(checkpoint.glob("*.safetensors")) + sorted(checkpoint.glob("*.pt*")):
        if not _is_whole(path):
            return f"{path.name} is cut short or damaged"
    parts = [path for path in checkpoint.iterdir() if not path.name.startswith(".")]
    present = {path.name for path in parts}
    is_one_folder = not any(path.is_dir() for path in parts)  # FSDP and DeepSpeed write folders of parts
    if is_one_folder and not any(name.endswith((".safetensors", ".bin")) for name in present - OF_THE_RUN):
        return "the weights are missing"
    index = checkpoint / "model.safetensors.index.json"
    if index.is_file():
        missing = set(_read_json(index).get("weight_map", {"": str(index)}).values()) - present
        if missing:
            return f"{min(missing)} is missing"
    if is_one_folder and any(name.startswith(("optimizer", "scheduler", "rng_state")) for name in present):
        for name in ("optimizer", "scheduler", "rng_state"):  # a run that saves only the model has none of them
            if not any(other.startswith(name) for other in present):
                return f"the file {name} is missing"
    return None if "global_step" in _read_json(checkpoint / "trainer_state.json") else "trainer_state.json is not whole"


def _is_whole(path: Path) -> bool:
    """Return False if a file of tensors was cut short. The files of torch are archives with a check sum for every part."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                return True
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, SafetensorError, zipfile.BadZipFile):
        return False


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or an empty dictionary if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
