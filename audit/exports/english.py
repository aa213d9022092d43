"""Exports are written in English whatever the language of the reports: programs and their rules read them."""

from __future__ import annotations

from reports.numbers import count


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 feature` or `3 features`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"
