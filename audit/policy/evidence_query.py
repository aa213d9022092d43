"""Rules in SQL over the sealed evidence: one SELECT that returns no row, or one number that keeps a bound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from math import isfinite
from typing import Annotated, ClassVar

from pydantic import StringConstraints
from pydantic.dataclasses import dataclass

from audit.errors import ConfigError
from audit.policy.asks import STRICT, Number
from audit.policy.subjects import Subject, SubjectKind, failed, passed, unresolved
from audit.records import RulePoint

_Statement = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
# The columns whose values a redacted copy withholds.
_TEXTS = re.compile(r"\b(text|piece|label|columns)\b", re.IGNORECASE)
_SHOWN = 3
_LONGEST = 120


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class SqlAsk:
    """A SELECT over the evidence; with `at_least` or `at_most` its one number, without them no row at all."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE

    select: _Statement
    at_least: Number | None = None
    at_most: Number | None = None

    @property
    def query(self) -> str:
        """Return the statement."""
        return self.select

    def problems(self) -> Iterator[str]:
        """Yield bounds that no number keeps."""
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            yield "at_least not above at_most"

    def asks(self) -> str:
        """Return the rule in words."""
        limits = {"at least": self.at_least, "at most": self.at_most}
        bounds = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)
        what = f"returns one number, {bounds}" if bounds else "returns no row"
        return (
            f"A query over the evidence {what}: {' '.join(self.select.split())}. Nothing follows from a table without"
            " rows, from NULL or NaN, or, of a redacted copy, from texts: unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield what the query gave.

        Raises:
            UsageError: the statement is none that may run, or does not end in time.
            ConfigError: a bound is set and the answer is not one number.
        """
        place, answers = "evidence", subject.answers
        if answers is None:
            yield unresolved(place, "there is no evidence to ask")
            return
        if answers.withheld and _TEXTS.search(self.select):
            yield unresolved(place, "the query reads texts, which this copy withholds")
            return
        empty = answers.empty(self.select)
        result = answers.ask(self.select)
        if self.at_least is None and self.at_most is None:
            if result.rows:
                shown = "; ".join(", ".join(map(_cell, row)) for row in result.rows[:_SHOWN])
                more = f"; and {len(result.rows) - _SHOWN} more" if len(result.rows) > _SHOWN else ""
                yield failed(place, f"{len(result.rows)} rows: {shown}{more}", rows=len(result.rows))
            elif empty:
                yield unresolved(place, f"no row, but without rows is also: {', '.join(empty)}", rows=0)
            else:
                yield passed(place, "no row", rows=0)
            return
        yield self._bound(result.columns, result.rows, empty)

    def _bound(
        self, columns: tuple[str, ...], rows: tuple[tuple[object, ...], ...], empty: tuple[str, ...]
    ) -> RulePoint:
        place = "evidence"
        if len(columns) != 1 or len(rows) > 1:
            raise self._unlike(f"{len(rows)} rows of {len(columns)} columns")
        value = rows[0][0] if rows else None
        if value is None:
            return unresolved(place, "the query gave no value" if rows else "the query gave no row")
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise self._unlike(f"a value of type {type(value).__name__}")
        if not isfinite(value):
            return unresolved(place, f"the query gave {value}")
        if empty:
            said = f"the query gave {float(value):.6g}, but without rows is: {', '.join(empty)}"
            return unresolved(place, said, value=float(value))
        low, high = self.at_least, self.at_most
        kept = (low is None or value >= low) and (high is None or value <= high)
        limits = {"at least": low, "at most": high}
        bounds = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)
        return (passed if kept else failed)(place, f"{float(value):.6g}, {bounds}", value=float(value))

    def _unlike(self, found: str) -> ConfigError:
        return ConfigError(
            item=f"SQL rule: {' '.join(self.select.split())[:_LONGEST]}",
            expected="one row of one number, as at_least or at_most is set",
            found=found,
            hint="Aggregate, such as SELECT count(*) ..., or leave the bounds out: then no row passes.",
        )


def _cell(value: object) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
