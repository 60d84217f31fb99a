"""A loss with its two terms, and how a function that returns it takes the arguments of another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec

from torch import Tensor


class LossParts(NamedTuple):
    """The total loss and its two terms before alpha mixes them: total = alpha * soft + (1 - alpha) * hard."""

    total: Tensor
    soft: Tensor | None
    """C(T) * D; None without a teacher."""
    hard: Tensor | None
    """CE at T = 1; None without labels."""


_Arguments = ParamSpec("_Arguments")


def with_arguments_of(
    loss: Callable[_Arguments, Tensor],
) -> Callable[[Callable[..., LossParts]], Callable[_Arguments, LossParts]]:
    """Return a decorator that gives a function the arguments and the defaults of another loss.

    ``help()`` and type checkers then show the full signature, which is written once. The decorated function is called with
    all keyword arguments, given or default.

    Args:
        loss: the function with the signature. Its optional arguments are keyword-only, except for those whose default the
            decorated function repeats.

    Returns:
        The decorator.
    """
    signature = inspect.signature(loss)
    defaults = {name: p.default for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert all(default is not inspect.Parameter.empty for default in defaults.values())

    def decorate(function: Callable[..., LossParts]) -> Callable[_Arguments, LossParts]:
        @wraps(function)
        def loss_parts(*args: Any, **kwargs: Any) -> LossParts:
            if unknown := kwargs.keys() - signature.parameters.keys():
                raise TypeError(f"{function.__name__}() got an unexpected keyword argument {min(unknown)!r}")
            return function(*args, **(defaults | kwargs))

        loss_parts.__signature__ = signature.replace(return_annotation=LossParts)  # pyright: ignore[reportAttributeAccessIssue]
        return loss_parts  # pyright: ignore[reportReturnType]

    return decorate
