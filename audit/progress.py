"""How long stages tell that they are alive, without knowing whether anyone watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """A listener to long stages. The command line draws a bar; the library stays silent."""

    def say(self, line: str) -> None:
        """Take one line about what starts now."""

    def stage(self, name: str, *, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage of `total` steps; the yielded function takes the number of steps finished."""


class Silent:
    """Hears and says nothing."""

    def say(self, line: str) -> None:
        """Drop the line."""

    @contextmanager
    def stage(self, name: str, *, total: int) -> Iterator[Callable[[int], None]]:
        """Yield a function that does nothing."""
        _ = name, total
        yield lambda _steps: None
