"""Texts in Markdown as GitHub reads it: shown, and nothing else; nothing of them is markup, a mention or a link."""

from __future__ import annotations

from string import punctuation

from audit.exports.source import line

_LONGEST = 200
# GitHub looks for mentions, issues and emoji in the text that Markdown leaves behind: a tag around the mark stops it.
_WRAPPED = frozenset("@#:")
# Marks that say nothing to Markdown inside a line, except after what `_may_begin` names.
_PLAIN = frozenset(",;'\"?%=()/-.+")


def as_text(text: str, most: int = _LONGEST) -> str:
    """Return a text of the record as Markdown that shows it and does nothing else; longer ones end in an ellipsis."""
    said = line(text)
    said = said if len(said) <= most else f"{said[: most - 1]}…"
    return "".join(_as_reference(said, place) for place in range(len(said)))


def _as_reference(text: str, place: int) -> str:
    char = text[place]
    if char not in punctuation or (char in _PLAIN and not _may_begin(text[:place])) or _is_inside_word(text, place):
        return char
    reference = f"&#{ord(char)};"
    return f"<span>{reference}</span>" if char in _WRAPPED else reference


def _may_begin(before: str) -> bool:
    """Return whether a plain mark after this text could begin a list, a link or a reference to an issue."""
    return not before or before.isdigit() or before.lower().endswith(("www", "gh"))


def _is_inside_word(text: str, place: int) -> bool:
    """Return whether it is an underscore between letters or digits, which emphasises nothing."""
    return text[place] == "_" and text[max(place - 1, 0)].isalnum() and text[place + 1 : place + 2].isalnum()
