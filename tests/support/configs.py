"""The faults of a config, as a test reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from limbeck.config import load_config
from limbeck.errors import ConfigError


def faults(text: str, folder: Path, overrides: Sequence[str] = (), *, training: bool = True) -> list[str]:
    """Write a config to ``c.yaml`` in a folder, and return the lines of the error that reading it raises."""
    path = folder / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides, training=training)
    return [fault.replace(f"{folder}/", "") for fault in caught.value.faults]
