"""Functions that make models, named as ``package.module:function``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbeck.errors import ModelError
from limbeck.models.libraries import library_of
from limbeck.models.networks import BUILT_IN


def is_function(name: str) -> bool:
    """Return True if a model's name is ``package.module:function``.

    Args:
        name: the name.
    """
    return ":" in name and name not in BUILT_IN and library_of(name) is None and not Path(name).exists()


def import_function(name: str) -> Callable[..., Any]:
    """Import the function that a model's name gives.

    Args:
        name: ``package.module:function``.

    Returns:
        The function.

    Raises:
        ModelError: it cannot be imported, or it is nothing that can be called.
    """
    module_name, function_name = name.split(":", 1)
    try:
        make = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(f"model {name!r}: {error}. Expected package.module:function, importable from here.") from None
    if not callable(make):
        raise ModelError(f"model {name!r}: expected a function, got {type(make).__name__}.")
    return make
