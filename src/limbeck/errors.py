"""Errors that a user can mend: one line for each fault, no traceback on the command line."""

from __future__ import annotations


class LimbeckError(Exception):
    """A fault in what the user gave: a config, a file, a name. ``faults`` has one line for each."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class ConfigError(LimbeckError):
    """A config that cannot be run; each fault names the file, the line and the key."""


class DataError(LimbeckError):
    """A data set that cannot be read, or does not fit what is asked of it."""


class ModelError(LimbeckError):
    """A model that cannot be built, loaded or called."""


class StoreError(LimbeckError):
    """A teacher store that cannot be built or read, or is of something else."""
