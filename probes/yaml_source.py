"""A YAML file as plain data with the line of every value, bounded in size and depth before anything is built.

Only what a suite needs is read: mappings, lists and scalars. Anchors, aliases and tags are refused, so no file can
grow beyond its own length in memory, and a key that is given twice is refused, which YAML itself would overwrite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from audit.digests import digest_bytes
from audit.errors import SuiteError
from probes.violations import Violation, field_name

MOST_BYTES = 4_000_000
_DEEPEST = 10
_SHOWN = 60
_TRUE = ("yes", "true", "on")
# What YAML takes a word without quotes for. It is never converted: no suite needs a number.
_OTHER_TYPES = ("int", "float", "null", "timestamp")

Place = tuple[str | int, ...]
# libyaml where PyYAML was built with it: a suite of the shipped size reads ten times faster.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, repr=False)
class Unquoted:
    """A scalar that YAML reads as something else than a text, as it is written."""

    text: str
    kind: str

    def __repr__(self) -> str:
        return self.text


@dataclass(slots=True)
class Document:
    """What a file says.

    Args:
        file: its path as it was given.
        data: mappings as dict with text keys, lists, texts, true and false, and other values without quotes as such.
        digest: of the file's bytes as they were read.
        lines: place -> line from 1, of each value.
        violations: what was refused while reading; the data then lacks it.
    """

    file: str
    data: object = None
    digest: str = ""
    lines: dict[Place, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def line_of(self, place: Place) -> int:
        """Return the line of a place, or of the nearest place around it that exists."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)

    def refuse(self, place: Place, *, expected: str, found: str) -> None:
        """Add a violation at a place."""
        self.violations.append(Violation(self.file, self.line_of(place), field_name(place), expected, found))


def read_yaml(path: Path) -> Document:
    """Read one YAML document.

    Raises:
        SuiteError: there is no such file, it is too large, not UTF-8, or not one YAML document. What is well-formed
        YAML but nothing that a suite may hold is a violation of the returned document instead.
    """
    document = Document(str(path))
    try:
        content = _read_bytes(path)
        document.digest = digest_bytes(content)
        events = yaml.parse(_decoded(content, path), Loader=_Loader)
        _Reader(document, events).read()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
        raise SuiteError(
            item=where, expected="one YAML document", found=str(reason), hint="Mend the file at that line."
        ) from error
    return document


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size <= MOST_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise SuiteError(
            item=str(path),
            expected="a suite file",
            found=error.strerror or "no file",
            hint="Check the name: suite.yaml names the files of its concepts and mixes.",
        ) from error
    raise SuiteError(
        item=str(path),
        expected=f"at most {MOST_BYTES:,} bytes",
        found=f"{size:,}",
        hint="Split the concept: a few hundred scenarios are enough for any test.",
    )


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SuiteError(
            item=f"{path}:{line}",
            expected="UTF-8 text",
            found=f"byte 0x{content[error.start]:02x} at offset {error.start}",
            hint="Save the file as UTF-8.",
        ) from error


class _Reader:
    """Builds data from parser events; nesting is bounded, so no file can exhaust the stack."""

    def __init__(self, document: Document, events: Iterator[yaml.Event]) -> None:
        self._document = document
        self._events = events
        self._resolver: Any = yaml.resolver.Resolver()

    def read(self) -> None:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if self._document.lines:
                    raise yaml.MarkedYAMLError(problem="a second document", problem_mark=_mark(event))
                self._document.data = self._value(next(self._events), ())

    def _value(self, event: yaml.Event, place: Place) -> object:
        document = self._document
        document.lines.setdefault(place, _line(event))
        if len(place) > _DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"more than {_DEEPEST} levels", problem_mark=_mark(event))
        if isinstance(event, yaml.AliasEvent):
            document.refuse(place, expected="the value itself", found=f"the alias *{event.anchor}")
            return None
        if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            raise yaml.MarkedYAMLError(problem="no value", problem_mark=_mark(event))
        self._refuse_marks(event, place)
        if isinstance(event, yaml.SequenceStartEvent):
            items = self._until(yaml.SequenceEndEvent)
            return [self._value(item, (*place, number)) for number, item in enumerate(items)]
        return self._scalar(event) if isinstance(event, yaml.ScalarEvent) else self._mapping(place)

    def _refuse_marks(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, place: Place) -> None:
        if event.anchor is not None:
            self._document.refuse(place, expected="no anchor", found=f"the anchor &{event.anchor}")
        if event.tag is not None:
            self._document.refuse(place, expected="no tag", found=f"the tag {event.tag}")

    def _mapping(self, place: Place) -> dict[str, object]:
        found: dict[str, object] = {}
        for key in self._until(yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise yaml.MarkedYAMLError(problem="a key that is no word", problem_mark=_mark(key))
            own = (*place, key.value)
            self._document.lines.setdefault(own, _line(key))
            self._refuse_marks(key, own)
            if key.value in found:
                self._document.violations.append(
                    Violation(self._document.file, _line(key), field_name(own), "each key once", "the key given twice")
                )
            value = self._value(next(self._events), own)
            found.setdefault(key.value, value)
        return found

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        text: str = event.value
        kind = (
            self._resolver.resolve(yaml.ScalarNode, text, (True, False)).rpartition(":")[2] if event.implicit[0] else ""
        )
        if kind == "bool":
            return text.lower() in _TRUE
        return Unquoted(text, kind) if kind in _OTHER_TYPES else text


def _mark(event: yaml.Event) -> Any:  # noqa: ANN401 - libyaml has a class of its own for marks
    return event.start_mark


def _line(event: yaml.Event) -> int:
    return int(_mark(event).line) + 1


def shown(value: object) -> str:
    """Return a value as an error quotes it, cut to a readable length."""
    text = value.text if isinstance(value, Unquoted) else repr(value)
    kind = value.kind if isinstance(value, Unquoted) else "bool" if isinstance(value, bool) else ""
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return f"{short} ({kind}, without quotes)" if kind else short
