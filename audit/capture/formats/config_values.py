"""Typed access to a publisher's configuration: a value of the wrong type is an error that names its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audit.errors import SaeInvalid

_MISSING = object()


@dataclass(frozen=True, slots=True)
class ConfigValues:
    """A configuration with the name that errors give it.

    Each method raises SaeInvalid when the key is missing and no default is given, or its value is of another type.
    """

    item: str
    values: Mapping[str, object]

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def whole(self, key: str, default: int | object = _MISSING) -> int:
        """Return a whole number of at least 0."""
        value = self._get(key, default)
        # A float that is whole: trainers write k as 50.0.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or value < 0:
            raise self._unlike(key, "a whole number", value)
        return value

    def number(self, key: str, default: float | object = _MISSING) -> float:
        """Return a finite number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise self._unlike(key, "a number", value)
        return float(value)

    def text(self, key: str, default: str | object = _MISSING) -> str:
        """Return a text."""
        value = self._get(key, default)
        if not isinstance(value, str) or not value:
            raise self._unlike(key, "a text", value)
        return value

    def flag(self, key: str, default: object = _MISSING) -> bool:
        """Return true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._unlike(key, "true or false", value)
        return value

    def section(self, key: str) -> ConfigValues:
        """Return the values of a section; empty when there is none."""
        value = self._get(key, {})
        if not isinstance(value, Mapping):
            raise self._unlike(key, "a section", value)
        return ConfigValues(f"{self.item}: {key}", value)

    def _get(self, key: str, default: object) -> object:
        value = self.values.get(key)
        if value is None and default is _MISSING:
            raise SaeInvalid(item=self.item, expected=f"the key {key}", found="none", hint="Restore the configuration.")
        return default if value is None else value

    def _unlike(self, key: str, expected: str, value: object) -> SaeInvalid:
        return SaeInvalid(
            item=f"{self.item}: {key}", expected=expected, found=repr(value)[:60], hint="Mend the configuration."
        )
