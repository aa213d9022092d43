"""The words and the estimate that records of every kind share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Contrast(StrEnum):
    """What two arms are compared. The two answer different questions and are never mixed."""

    TOPIC = "topic"
    DISTINCTION = "distinction"


class Rung(StrEnum):
    """The evidence ladder, lowest first. The default is `unresolved`: absence of evidence never reads as a pass."""

    UNRESOLVED = "unresolved"
    OBSERVED = "observed"
    ASSOCIATED = "associated"
    CONFIRMED = "confirmed"
    CAUSAL = "causal"

    @property
    def height(self) -> int:
        """Return the position on the ladder; 0 is `unresolved`."""
        return _HEIGHTS[self]


_HEIGHTS = {rung: height for height, rung in enumerate(Rung)}


class Colour(StrEnum):
    """How far an instrument can be trusted. The limits are this project's conventions."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"


class Reading(StrEnum):
    """What the pair (linear probe, SAE) says about one contrast."""

    DECOMPOSED = "represented and decomposed"
    NOT_DECOMPOSED = "represented, not decomposed by this SAE"
    NOT_REPRESENTED = "not represented at this site"
    SUSPECT = "suspect"
    UNRESOLVED = "unresolved"


class Lexical(StrEnum):
    """Whether a feature follows the concept's cue words rather than the concept."""

    LEXICAL = "lexical"
    NOT_LEXICAL = "not lexical"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% cluster bootstrap interval (BCa over scenarios).

    `low` and `high` are None when the bootstrap distribution is degenerate (every scenario gave the same value).
    """

    value: float
    low: float | None
    high: float | None
