"""Which checkpoint of a run was written to its end."""

from __future__ import annotations

import json
import re
from pathlib import Path


def last_complete_checkpoint(folder: str | Path) -> Path | None:
    """The newest ``checkpoint-N`` in ``folder`` whose writing was not cut short; None when there is none.

    The Trainer writes ``trainer_state.json`` last, so a checkpoint where it can be read is whole.
    """
    numbered = []
    for path in Path(folder).glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and _is_complete(path):
            numbered.append((int(match.group(1)), path))
    return max(numbered, default=(0, None))[1]


def _is_complete(checkpoint: Path) -> bool:
    try:
        return "global_step" in json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
