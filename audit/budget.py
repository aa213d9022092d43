"""How much work the causal tests may take: words of the user, and a count that says when to stop.

A limit in forward-equivalents stops every run at the same place; one in minutes depends on the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from audit.errors import ConfigError

_AMOUNT = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) (forward|minute)s?")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in the user's words.

    Args:
        text: the words.
        forwards: forward-equivalents; infinite where time decides, or nothing.
        seconds: infinite where forward-equivalents decide, or nothing.
    """

    text: str
    forwards: float = inf
    seconds: float = inf


def parse_limit(text: str, *, item: str) -> Limit:
    """Read "unlimited", "none", "40000 forwards" or "10 minutes".

    Args:
        text: the words, in lower case, a single space between number and unit.
        item: how an error names the place of the words.

    Raises:
        ConfigError: the words are none of these, or the number is 0.
    """
    if text == "unlimited":
        return Limit(text)
    if text == "none":
        return Limit(text, forwards=0.0)
    match = _AMOUNT.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise ConfigError(
            item=item,
            expected='"unlimited", "none", or a number above 0 with a unit: "40000 forwards", "10 minutes"',
            found=repr(text),
            hint="See docs/config.md; “none” leaves the causal tests out.",
        )
    amount = float(match[1])
    return Limit(text, forwards=amount) if match[2] == "forward" else Limit(text, seconds=60 * amount)


class Budget:
    """Says whether there is work left; asked between units of work, so the last unit may exceed the limit.

    Args:
        limit: how much.
        meters: forward-equivalents that each of the workers has spent.
        clock: monotonic seconds; the count starts now.
    """

    def __init__(self, limit: Limit, *, meters: Sequence[Callable[[], float]], clock: Callable[[], float]) -> None:
        self.limit = limit
        self._meters = tuple(meters)
        self._clock = clock
        self._began = clock()

    @property
    def spent(self) -> float:
        """Return the forward-equivalents spent so far."""
        return sum(meter() for meter in self._meters)

    def may_begin(self) -> bool:
        """Return whether another unit of work may begin."""
        return self.spent < self.limit.forwards and self._clock() - self._began < self.limit.seconds

    @property
    def reason(self) -> str:
        """Return why no other unit begins."""
        return "causal.budget is “none”" if self.limit.forwards == 0 else f"the budget of {self.limit.text} was spent"
