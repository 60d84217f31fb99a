"""Warnings about what will be removed, one release before it is."""

from __future__ import annotations

import sys
import warnings


def warn_deprecated(old: str, *, use: str, removed_in: str) -> None:
    """Warn, at the user's own line, that something will be removed.

    The warning is a ``FutureWarning``, as in scikit-learn and pandas. Python hides a ``DeprecationWarning`` that is raised in a
    user's module, so that most users would learn of the removal from an error.

    Args:
        old: what will be removed, as users write it.
        use: what to write in its place.
        removed_in: the first version that will not have it.
    """
    level, frame = 1, sys._getframe(0)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "limbeck":
        level, frame = level + 1, frame.f_back
    warnings.warn(f"{old} will be removed in Limbeck {removed_in}. Use {use}.", FutureWarning, stacklevel=level)
