"""What is wrong with a suite's files: every violation with file, line and field, and all of them in one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.errors import SuiteError

_LISTED = 50


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One place where a file breaks the schema or its rules.

    Args:
        file: the file's path as it was given.
        line: line of the field, or of what encloses it when the field is missing; from 1.
        field: the field's place in the file, such as `scenarios[3].arms.control`.
        expected: what should stand there.
        found: what stands there.
    """

    file: str
    line: int
    field: str
    expected: str
    found: str

    def __str__(self) -> str:
        """Return the violation on one line."""
        place = f" {self.field}" if self.field else ""
        return f"{self.file}:{self.line}:{place} expected {self.expected}; found {self.found}"


def refusal(what: str, violations: Sequence[Violation]) -> SuiteError:
    """Return one error that lists all violations, ordered by file and line."""
    lines = [str(violation) for violation in sorted(violations)]
    more = len(lines) - _LISTED
    return SuiteError(
        item=f"{what}: {len(lines)} violation{'s' if len(lines) > 1 else ''}",
        expected="files of the form that docs/suites.md describes",
        found="\n            ".join([*lines[:_LISTED], *([f"and {more} more"] if more > 0 else [])]),
        hint="Mend each place, then load again.",
    )


def field_name(place: Sequence[str | int]) -> str:
    """Return a place in a document as a reader writes it: `scenarios[3].arms.control`."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
