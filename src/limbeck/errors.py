"""Errors that a user can mend. The command line prints one line for each fault, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class LimbeckError(Exception):
    """A fault in what the user gave: a config, a file, an argument.

    Args:
        faults: one line for each fault.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class ArgumentError(LimbeckError, ValueError):
    """An argument with a value that is not accepted.

    Args:
        argument: the name of the argument. A config puts its own key before it.
        message: what was given, what is expected and the remedy.

    Example:
        >>> error = ArgumentError("temperature", "expected a positive number, got -1.")
        >>> str(error)
        'temperature: expected a positive number, got -1.'
        >>> error.argument
        'temperature'
    """

    def __init__(self, argument: str, message: str) -> None:
        self.argument, self.message = argument, message
        super().__init__(f"{argument}: {message}")

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, str]]:
        return type(self), (self.argument, self.message)


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a type that is not accepted."""


class ConfigError(LimbeckError):
    """A config that cannot be run. Each fault names the file, the line and the key."""


class DataError(LimbeckError):
    """A data set that cannot be read, or that does not fit what is asked of it."""


class ModelError(LimbeckError):
    """A model that cannot be built, loaded or called."""


class TrainingError(LimbeckError):
    """A training run that cannot go on: its loss or its weights are no longer finite."""


class StoreError(LimbeckError):
    """A teacher store that cannot be built or read, or that belongs to something else."""


SHORT_NAMES = {
    "t": "temperature", "tau": "temperature", "temp": "temperature", "kl": "forward_kl", "kld": "forward_kl",
    "kl_div": "forward_kl", "fkl": "forward_kl", "rkl": "reverse_kl", "js": "jsd", "mse": "logit_mse", "tv": "tvd",
}  # fmt: skip
"""Short names that people use, each with the name that it has here."""


def suggestion(given: object, known: Iterable[str]) -> str:
    """Return what follows "unknown key" or the like: ", did you mean alpha?", or else the known names if they are few.

    Args:
        given: the unknown name.
        known: the known names.
    """
    names = list(known)
    close = closest(given, names)
    if close is not None:
        return f", did you mean {close}?"
    return f"; known are {', '.join(names)}" if 0 < len(names) <= 30 else ""


def expected_name(given: object, known: Iterable[str]) -> str:
    """Return what an error says about a name that is none of the known ones.

    Args:
        given: the unknown name.
        known: the known names, which the message lists.

    Example:
        >>> expected_name("jds", ["jsd", "tvd"])
        "expected one of jsd, tvd, got 'jds'. Did you mean jsd?"
    """
    names = list(known)
    close = closest(given, names)
    return f"expected one of {', '.join(names)}, got {given!r}.{f' Did you mean {close}?' if close else ''}"


def closest(given: object, names: Sequence[str]) -> str | None:
    """Return the known name that a usual short name stands for, or else the most similar one.

    Args:
        given: the unknown name.
        names: the known names.

    Returns:
        The name; None if none is similar.
    """
    meant = SHORT_NAMES.get(str(given).lower())
    return meant if meant in names else next(iter(difflib.get_close_matches(str(given), names, n=1)), None)
