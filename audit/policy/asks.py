"""What every kind of rule has in common: what it is about, what it asks in words, and how it looks at a subject."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Protocol

from pydantic import ConfigDict, Field, StringConstraints

from audit.policy.subjects import Subject, SubjectKind
from audit.records import Contrast, RulePoint

# A key that is not known, and a value of another type, is an error and never ignored.
STRICT = ConfigDict(extra="forbid", strict=True)
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Names = tuple[Name, ...]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Contrasts = Annotated[tuple[Contrast, ...], Field(min_length=1)]


class Ask(Protocol):
    """One kind of rule with its thresholds: a frozen record that can look."""

    about: ClassVar[SubjectKind | None]

    @property
    def query(self) -> str:
        """Return what computes the figures from the evidence: names for `affidavit sql --query`, or a file."""

    def asks(self) -> str:
        """Return what the rule asks, what fails it and what leaves it unresolved, in plain words."""

    def problems(self) -> Iterator[str]:
        """Yield what no schema can say of the thresholds; nothing when they fit each other."""

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each thing that the rule looked at; none at all is unresolved."""


def listed(names: tuple[str, ...], none: str) -> str:
    """Return names for a sentence, or what stands for none."""
    return ", ".join(names) if names else none


def of_concepts(concepts: tuple[str, ...]) -> str:
    """Return which concepts a rule is about."""
    return f"of {listed(concepts, 'every concept of the audit')}"


def through(saes: tuple[str, ...]) -> str:
    """Return which SAEs a rule is about."""
    if saes == ("*",):
        return "through every SAE"
    return f"through {listed(saes, 'the first SAE')}"
