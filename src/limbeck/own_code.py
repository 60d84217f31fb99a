"""Classes of the user's own, which a config or an argument names as ``package.module:Class``."""

from __future__ import annotations

import importlib
from typing import TypeVar

from limbeck.errors import ArgumentError, ArgumentTypeError

_Class = TypeVar("_Class")


def is_own(name: object) -> bool:
    """Return True if a name is that of a class of the user's own.

    Args:
        name: what was given.
    """
    return isinstance(name, str) and ":" in name


def check_name(name: object, decorator: str) -> None:
    """Require a name that a class can be registered by.

    Args:
        name: what was given.
        decorator: the name of the decorator, for the error.

    Raises:
        ArgumentTypeError: it is no text.
        ArgumentError: it is empty or has a colon, which names a class in a module.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError("name", f"expected a text, got {name!r}. Write @{decorator}('my_name').")
    if not name or is_own(name):
        raise ArgumentError("name", f"expected a text without a colon, got {name!r}.")


def add_class(registry: dict[str, type[_Class]], name: str, cls: type[_Class]) -> None:
    """Add a class to those that are known by a name.

    Args:
        registry: the classes by name.
        name: of the class.
        cls: the class. It may take the place of a class of the same module and name, which is an earlier version of it.

    Raises:
        ArgumentError: another class has this name.
    """
    other = registry.get(name, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ArgumentError("name", f"{name!r} is the name of {other.__qualname__} already. Choose another.")
    registry[name] = cls


def import_class(name: str, base: type[_Class], argument: str) -> type[_Class]:
    """Import a class of the user's own.

    To import a module is to run it. A name that was read from a folder, which may come from somebody else, must not come
    here; one that the user gives in this call, or in the config of this command, may.

    Args:
        name: ``package.module:Class``.
        base: what the class must be a subclass of.
        argument: the name of the argument, for the errors.

    Returns:
        The class.

    Raises:
        ArgumentError: there is no such module or class.
        ArgumentTypeError: it is not a subclass of ``base``.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArgumentError(
            argument, f"{name!r}: {error}. Expected package.module:Class, importable from here."
        ) from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ArgumentTypeError(argument, f"{name!r}: expected a subclass of {base.__module__}.{base.__name__}.")
    return found
