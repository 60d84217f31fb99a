"""The message about a package that is not installed."""

from __future__ import annotations

import re
from importlib import metadata

PACKAGES = {"PIL": "pillow", "ruamel": "ruamel-yaml", "sklearn": "scikit-learn"}
"""The packages whose name differs from that of their module."""


def missing_package_message(module: str) -> str:
    """Say that a package is not installed, and how to add it.

    Args:
        module: the name of the module that could not be imported.

    Returns:
        The message, which names Limbeck's extra that the package belongs to.
    """
    name = module.partition(".")[0]
    found = _requirement(PACKAGES.get(name, name))
    if found is None:
        return f"{name} is not installed. Install Limbeck with its extra 'train'."
    requirement, extra = found
    return f"{name} is not installed. Add it with: pip install '{requirement}' (or install Limbeck with its extra {extra!r})"


def _requirement(package: str) -> tuple[str, str] | None:
    """Return what Limbeck requires of a package, such as ``optuna>=4.2``, and the extra that it belongs to."""
    try:
        requirements = metadata.requires("limbeck") or []
    except metadata.PackageNotFoundError:  # run from the source, without an installation
        return None
    for requirement in requirements:
        parts = re.fullmatch(r"([\w.-]+)([^;\s]*)\s*;\s*extra\s*==\s*['\"](\w+)['\"]", requirement)
        if parts and parts[1] == package and parts[3] != "all":
            return parts[1] + parts[2], parts[3]
    return None
