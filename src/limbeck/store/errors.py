"""The error of an argument that a store cannot be built or read with."""

from __future__ import annotations

from limbeck.errors import ArgumentError, StoreError


class StoreArgumentError(ArgumentError, StoreError):
    """An argument of this room that is not accepted.

    It is an ``ArgumentError``, so that callers can read ``.argument``, and a ``StoreError``, so that one ``except`` clause
    catches everything that can go wrong with a store.
    """
