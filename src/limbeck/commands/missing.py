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
        The message, which names Limbeck's extras that the package belongs to.
    """
    name = module.partition(".")[0]
    found = _requirements(PACKAGES.get(name, name))
    if not found:
        return f"{name} is not installed. Install Limbeck with its extra 'train'."
    extras = " or ".join(repr(extra) for extra in found)
    requirement = next(iter(found.values()))
    return f"{name} is not installed. Add it with: pip install '{requirement}' (or install Limbeck with its extra {extras})"


def _requirements(package: str) -> dict[str, str]:
    """Return what each extra of Limbeck that brings a package requires of it, such as ``{"search": "optuna>=4.2"}``."""
    try:
        requirements = metadata.requires("limbeck") or []
    except metadata.PackageNotFoundError:  # run from the source, without an installation
        return {}
    found = {}
    for requirement in requirements:
        parts = re.fullmatch(r"([\w.-]+)([^;\s]*)\s*;\s*extra\s*==\s*['\"](\w+)['\"]", requirement)
        if parts and parts[1] == package and parts[3] != "all":
            found[parts[3]] = parts[1] + parts[2]
    return found
