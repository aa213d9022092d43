"""Records as plain JSON values, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_origin, get_type_hints

from audit.digests import Json
from audit.errors import EvidenceError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def as_json(value: object) -> Json:
    """Return a record as plain JSON values: enums by value, tuples as lists.

    Raises:
        TypeError: a field holds something that is not a record, an enum or a JSON value.
    """
    if isinstance(value, Enum):
        return str(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass_as_json(value)
    if isinstance(value, dict):
        return {str(key): as_json(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(child) for child in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot enter a record")


def parse_record(kind: Any, value: Json, *, where: str = "") -> Any:  # noqa: ANN401 - reflection
    """Return the record that `as_json` turned into this value.

    Raises:
        EvidenceError: a field is missing, unknown or of another type; the message names it.
    """
    try:
        return _parser(kind)(value)
    except _Unlike as error:
        raise _refusal(error, where) from None


class _Unlike(Exception):  # noqa: N818 - private control flow inside one parse
    """A value is not of its type.

    Its place is put together on the way out: to name every place on the way in took most of the time.
    """

    def __init__(self, kind: Any, found: object) -> None:  # noqa: ANN401 - reflection
        super().__init__()
        self.kind = kind
        self.found = found
        self.path: list[str] = []


_Parser: TypeAlias = "Callable[[Json], Any]"


@cache
def _parser(kind: Any) -> _Parser:  # noqa: ANN401 - reflection
    """Return what turns a JSON value into this type; found out once, not for each of 500,000 values."""
    if get_origin(kind) is dict:
        return _dict_parser(kind)
    options = [option for option in get_args(kind) if option is not type(None)]
    if get_origin(kind) is tuple:
        return _tuple_parser(kind, options[0])
    if options:
        inner = _parser(options[0])
        return lambda value: None if value is None else inner(value)
    return _record_parser(kind) if is_dataclass(kind) else _value_parser(kind)


def _tuple_parser(kind: Any, own: Any) -> _Parser:  # noqa: ANN401 - reflection
    inner = _parser(own)

    def parse(value: Json) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _Unlike(kind, value)
        found: list[Any] = []
        try:
            for child in value:
                found.append(inner(child))  # noqa: PERF401 - its length is the place of what fails
        except _Unlike as error:
            error.path.append(f"[{len(found)}]")
            raise
        return tuple(found)

    return parse


def _dict_parser(kind: Any) -> _Parser:  # noqa: ANN401 - reflection
    (_, own) = get_args(kind)
    # What a field of any JSON holds is the writer's affair.
    inner = None if own is object else _parser(own)

    def parse(value: Json) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _Unlike(kind, value)
        return dict(value) if inner is None else _named(value, dict.fromkeys(value, inner))

    return parse


def _record_parser(kind: Any) -> _Parser:  # noqa: ANN401 - reflection
    names = {each.name: each.default is not MISSING for each in fields(kind)}
    hints = get_type_hints(kind, localns={"Json": object})
    parsers = {name: _parser(hints[name]) for name in names}

    def parse(value: Json) -> Any:  # noqa: ANN401 - reflection
        if not isinstance(value, Mapping):
            raise _Unlike(kind, value)
        # A field with a default came after the first bundles: a record without it is older, not damaged.
        if value.keys() != names.keys() and (
            odd := sorted(name for name in set(names) ^ set(value) if not names.get(name))
        ):
            raise _Unlike(kind, ", ".join(f"{'no' if name in names else 'unknown'} {name}" for name in odd))
        return kind(**_named(value, parsers))

    return parse


def _named(value: Mapping[str, Json], parsers: Mapping[str, _Parser]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    name = ""
    try:
        for name, child in value.items():
            found[name] = parsers[name](child)
    except _Unlike as error:
        error.path.append(f".{name}")
        raise
    return found


def _value_parser(kind: Any) -> _Parser:  # noqa: ANN401 - reflection
    if issubclass(kind, StrEnum):
        members = {member.value: member for member in kind}

        def parse_member(value: Json) -> Any:  # noqa: ANN401 - reflection
            if not isinstance(value, str) or value not in members:
                raise _Unlike(kind, value)
            return members[value]

        return parse_member
    return _number if kind is float else lambda value: _exactly(kind, value)


def _number(value: Json) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise _Unlike(float, "a whole number beyond the largest float") from None
    if type(value) is not float or not math.isfinite(value):
        raise _Unlike(float, value)
    return value


def _exactly(kind: Any, value: Json) -> Any:  # noqa: ANN401 - reflection
    if type(value) is not kind:
        raise _Unlike(kind, value)
    return value


def _refusal(error: _Unlike, where: str) -> EvidenceError:
    kind = error.kind
    place = where + "".join(reversed(error.path))
    return EvidenceError(
        item=place.lstrip(".") or kind.__name__,
        expected=getattr(kind, "__name__", str(kind)),
        found=repr(error.found)[:80],
        hint="The file was made by another version, or is damaged.",
    )


def _dataclass_as_json(value: DataclassInstance) -> Json:
    return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
