"""Progress on stderr: bars and lines on a terminal, nothing otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from audit.progress import Progress, Silent


class TerminalProgress:
    """Draws one bar a stage on stderr."""

    def say(self, line: str) -> None:
        """Print the line."""
        tqdm.write(line, file=sys.stderr)

    @contextmanager
    def stage(self, name: str, *, total: int) -> Iterator[Callable[[int], None]]:
        """Draw a bar of `total` steps while the block runs."""
        with tqdm(total=total, desc=name, file=sys.stderr, leave=True, dynamic_ncols=True) as bar:

            def advance(steps: int) -> None:
                bar.update(steps)

            yield advance


def progress(*, quiet: bool) -> Progress:
    """Return the listener for this process: silent when asked to be, or when stderr is not a terminal."""
    return TerminalProgress() if sys.stderr.isatty() and not quiet else Silent()
