"""Warnings that point at the user's own line, among them those about what will be removed, one release before it is."""

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
    warnings.warn(
        f"{old} will be removed in Limbeck {removed_in}. Use {use}.", FutureWarning, stacklevel=stacklevel_of_user()
    )


def stacklevel_of_user() -> int:
    """Return the ``stacklevel`` with which the caller's warning points at the first line outside of Limbeck and torch."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("limbeck", "torch"):
        level, frame = level + 1, frame.f_back
    return level
