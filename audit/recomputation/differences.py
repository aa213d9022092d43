"""Where two records differ: names of fields, what was printed, what the evidence gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.digests import Json

# Sums in another order of the same numbers differ by less; a printed figure has at most four digits.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9
_MISSING = "nothing"
# Fields that name a row, the first of them that it has.
_NAMES = ("id", "sae", "name", "concept")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs.

    Args:
        where: the path to it, rows by their name.
        recorded: its value in findings.json; recomputed: the one that the evidence gives.
    """

    where: str
    recorded: str
    recomputed: str

    def __str__(self) -> str:
        """Return the difference as one line."""
        return f"{self.where}: recorded {self.recorded}, the evidence gives {self.recomputed}"


def differences(recorded: Json, recomputed: Json, *, where: str) -> Iterator[Difference]:
    """Yield every field in which two JSON values differ beyond rounding, in the order of the first.

    Args:
        recorded: a value of findings.json.
        recomputed: the value that the evidence gives.
        where: what they are.
    """
    if isinstance(recorded, Mapping) and isinstance(recomputed, Mapping):
        for key in dict.fromkeys([*recorded, *recomputed]):
            yield from _pair(recorded, recomputed, key, f"{where}/{key}")
    elif _is_row(recorded) and _is_row(recomputed):
        yield from _rows(recorded, recomputed, where)  # type: ignore[arg-type] # both were looked at
    elif not _equal(recorded, recomputed):
        yield Difference(where, _said(recorded), _said(recomputed))


def _pair(recorded: Mapping[str, Json], recomputed: Mapping[str, Json], key: str, where: str) -> Iterator[Difference]:
    if key in recorded and key in recomputed:
        yield from differences(recorded[key], recomputed[key], where=where)
    else:
        one, other = (_said(side[key]) if key in side else _MISSING for side in (recorded, recomputed))
        yield Difference(where, one, other)


def _rows(recorded: Sequence[Json], recomputed: Sequence[Json], where: str) -> Iterator[Difference]:
    names, others = _named(recorded), _named(recomputed)
    if names is None or others is None:
        names, others = (dict(zip(map(str, range(len(rows))), rows, strict=True)) for rows in (recorded, recomputed))
    for key in dict.fromkeys([*names, *others]):
        yield from _pair(names, others, key, f"{where}/{key}")
    if list(names) != list(others) and set(names) == set(others):
        yield Difference(f"{where}, order", ", ".join(names)[:80], ", ".join(others)[:80])


def _named(rows: Sequence[Json]) -> dict[str, Json] | None:
    """Return rows by what names each, or None where nothing does."""
    for field in _NAMES:
        if rows and all(isinstance(row, Mapping) and isinstance(row.get(field), str) for row in rows):
            found: dict[str, Json] = {str(row[field]): row for row in rows if isinstance(row, Mapping)}
            if len(found) == len(rows):
                return found
    return {} if not rows else None


def _is_row(value: Json) -> bool:
    return isinstance(value, list | tuple)


def _equal(one: Json, other: Json) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)]
    if all(numbers) and (isinstance(one, float) or isinstance(other, float)):
        try:
            return math.isclose(float(one), float(other), rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)  # type: ignore[arg-type]
        except OverflowError:
            return False
    return type(one) is type(other) and one == other


def _said(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)[:80] if not isinstance(value, Mapping | list | tuple) else "a record"
