"""The errors of arguments that a store cannot be built or read with."""

from __future__ import annotations

from torch import Tensor

from limbeck.errors import ArgumentError, StoreError


class StoreArgumentError(ArgumentError, StoreError):
    """An argument of this room that is not accepted.

    It is an ``ArgumentError``, so that callers can read ``.argument``, and a ``StoreError``, so that one ``except`` clause
    catches everything that can go wrong with a store.
    """


class UnstorableError(StoreArgumentError):
    """Values of the teacher that a format cannot hold.

    Args:
        argument: the argument that must change: "teacher" or "dtype".
        message: what is wrong, and the remedy.
        positions: bool (P,), True at the positions whose values cannot be held.
    """

    def __init__(self, argument: str, message: str, positions: Tensor) -> None:
        self.positions = positions
        super().__init__(argument, message)

    def __reduce__(self) -> tuple[type[UnstorableError], tuple[str, str, Tensor]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self), (self.argument, self.message, self.positions)
