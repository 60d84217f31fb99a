"""Faults that are found one after another and said together, each with the key and the line of the config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from limbeck.config import Config
from limbeck.errors import ArgumentError, ConfigError, LimbeckError


class Faults:
    """The faults that were found so far.

    Args:
        config: the run, which knows where each of its keys was written; None leaves the places out.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.lines: list[str] = []
        self._config, self._first = config, None

    @contextmanager
    def under(self, key: str) -> Iterator[None]:
        """Keep the faults of the block in place of raising them.

        Args:
            key: the key of the config that is at fault where a message names none itself.

        Yields:
            Nothing.
        """
        try:
            yield
        except LimbeckError as error:
            self._first = self._first or error
            if isinstance(error, ArgumentError) and self._has(key, error.argument):
                self.lines.append(self._line(f"{key.partition('.')[0]}.{error.argument}", error.message))
                return
            for fault in error.faults:
                named, _, message = fault.partition(": ")
                is_key = " " not in named and named.partition(".")[0] in Config.model_fields
                self.lines.append(self._line(named, message) if is_key or named == key else self._line(key, fault))

    def raise_all(self) -> None:
        """Raise what was found.

        Raises:
            ConfigError: there is a fault; one line for each.
        """
        if self.lines:
            raise ConfigError(*self.lines) from self._first

    def _has(self, key: str, argument: str) -> bool:
        """Return True if the section of a key has a key of this name."""
        return hasattr(getattr(self._config, key.partition(".")[0], None), argument)

    def _line(self, key: str, message: str) -> str:
        return f"{key}: {message}" if self._config is None else self._config.fault(key, message)
