"""Records as plain JSON values, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin, get_type_hints

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
    shape = _shape(kind)
    match shape.form:
        case _Form.PLAIN:
            return _parse_value(kind, value, where)
        case _Form.OPTIONAL:
            return None if value is None else parse_record(shape.inner, value, where=where)
        case _Form.TUPLE:
            if not isinstance(value, list | tuple):
                raise _unlike(kind, value, where)
            inner = shape.inner
            return tuple([parse_record(inner, child, where=f"{where}[{n}]") for n, child in enumerate(value)])
        case _Form.DICT:
            return _parse_dict(kind, value, where)
    if not isinstance(value, Mapping):
        raise _unlike(kind, value, where)
    names, hints = shape.names, shape.hints
    # A field with a default came after the first bundles: a record without it is older, not damaged.
    if value.keys() != names.keys() and (
        odd := sorted(name for name in set(names) ^ set(value) if not names.get(name))
    ):
        raise _unlike(kind, ", ".join(f"{'no' if name in names else 'unknown'} {name}" for name in odd), where)
    record = cast("Any", kind)
    return record(**{name: parse_record(hints[name], value[name], where=f"{where}.{name}") for name in value})


class _Form(Enum):
    PLAIN = 0
    OPTIONAL = 1
    TUPLE = 2
    DICT = 3
    RECORD = 4


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a type is parsed; of a record the fields, each with whether it has a default, and their types."""

    form: _Form
    inner: Any = None
    names: Mapping[str, bool] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)


@cache
def _shape(kind: Any) -> _Shape:  # noqa: ANN401 - reflection
    """Return how a type is parsed; to find it out anew for each of 500,000 values took most of the time."""
    if get_origin(kind) is dict:
        return _Shape(_Form.DICT)
    options = [option for option in get_args(kind) if option is not type(None)]
    if get_origin(kind) is tuple:
        return _Shape(_Form.TUPLE, options[0])
    if options:
        return _Shape(_Form.OPTIONAL, options[0])
    if not is_dataclass(kind):
        return _Shape(_Form.PLAIN)
    names = {each.name: each.default is not MISSING for each in fields(kind)}
    return _Shape(_Form.RECORD, None, names, get_type_hints(kind, localns={"Json": object}))


def _parse_dict(kind: Any, value: Json, where: str) -> dict[str, Any]:  # noqa: ANN401 - reflection
    if not isinstance(value, Mapping):
        raise _unlike(kind, value, where)
    (_, own) = get_args(kind)
    # What a field of any JSON holds is the writer's affair.
    return {
        key: child if own is object else parse_record(own, child, where=f"{where}.{key}")
        for key, child in value.items()
    }


def _parse_value(kind: Any, value: Json, where: str) -> Any:  # noqa: ANN401 - reflection
    if issubclass(kind, StrEnum) and isinstance(value, str) and value in {member.value for member in kind}:
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise _unlike(kind, "a whole number beyond the largest float", where) from error
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise _unlike(kind, value, where)
    return value


def _unlike(kind: Any, value: Json, where: str) -> EvidenceError:  # noqa: ANN401 - reflection
    return EvidenceError(
        item=where.lstrip(".") or kind.__name__,
        expected=getattr(kind, "__name__", str(kind)),
        found=repr(value)[:80],
        hint="The file was made by another version, or is damaged.",
    )


def _dataclass_as_json(value: DataclassInstance) -> Json:
    return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
