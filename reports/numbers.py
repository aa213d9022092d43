"""Numbers as they are printed: fixed places, a true minus, and `not measured` instead of an invented value."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime

from audit.records import Estimate
from reports.language import N_, _, ngettext

NOT_MEASURED = N_("not measured")
NO_INTERVAL = N_("no interval")
_MONTHS = (
    N_("January"),
    N_("February"),
    N_("March"),
    N_("April"),
    N_("May"),
    N_("June"),
    N_("July"),
    N_("August"),
    N_("September"),
    N_("October"),
    N_("November"),
    N_("December"),
)
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
OPEN, CLOSE = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Cc, Cf (bidirectional overrides too), Cs, Co, Cn: characters that could hide or reorder what a reader sees.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
# Marks that stand above or below a letter: no living script puts more than a few on one, and more cover other lines.
_STACKING = frozenset({"Mn", "Me"})
_MOST_STACKED = 4
_KEPT_IN_PROSE = frozenset("\n\t")


def decimal(value: float | None, places: int = 2) -> str:
    """Return a fixed-point number, or `not measured`."""
    if value is None:
        return _(NOT_MEASURED)
    text = f"{value:.{places}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float | None, places: int = 2) -> str:
    """Return a fixed-point number that carries its sign, or `not measured`."""
    text = decimal(value, places)
    return f"+{text}" if value is not None and not text.startswith(MINUS) and float(text) != 0 else text


def interval(estimate: Estimate, places: int = 2) -> str:
    """Return `[low, high]`, or `no interval` when the bootstrap was degenerate."""
    if estimate.low is None or estimate.high is None:
        return _(NO_INTERVAL)
    return f"[{decimal(estimate.low, places)}, {decimal(estimate.high, places)}]"


def probability(value: float | None) -> str:
    """Return a p-value: `0.212`, `0.0043`, or a power of ten below 0.001. It never rounds to zero."""
    if value is None:
        return _(NOT_MEASURED)
    if value == 0 or value >= 0.01:
        return f"{value:.3f}"
    if value >= 0.001:
        return f"{value:.4f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}{THIN_SPACE}{TIMES}{THIN_SPACE}10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def share(value: float | None) -> str:
    """Return a share as a percentage with one place, or `not measured`. A non-zero share never prints as 0.0%."""
    if value is None:
        return _(NOT_MEASURED)
    if 0 < value < 0.0005:
        return "< 0.1%"
    return f"{100 * value:.1f}%"


def count(value: int) -> str:
    """Return an integer with narrow spaces between thousands."""
    return f"{value:,}".replace(",", THIN_SPACE)


def plain(value: float | None) -> str:
    """Return the value that a browser sorts by; what was not measured sorts last."""
    return "" if value is None else repr(float(value))


def short_digest(digest: str) -> str:
    """Return the hash's name and its first 16 hex digits."""
    name, _colon, value = digest.partition(":")
    return f"{name}:{value[:16]}…" if len(value) > 16 else digest


def date_text(stamp: str) -> str:
    """Return an ISO 8601 moment as people write it, in its own zone; anything else is returned unchanged."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return visible(stamp)
    return _(
        "{day} {month} {year}, {time} {zone}",
        day=moment.day,
        month=month_name(moment.month),
        year=moment.year,
        time=f"{moment:%H:%M}",
        zone=moment.tzname() or _("no time zone given"),
    )


def month_name(month: int) -> str:
    """Return the name of a month, counted from 1."""
    return _(_MONTHS[month - 1])


def plural(number: int, one: str, several: str, /, **values: object) -> str:
    """Return the form of a message that the number takes, such as `1 feature` or `3 features`.

    Args:
        number: printed in place of `{count}`.
        one: the English message for one.
        several: the English message for any other number.
        values: by the names of further placeholders.
    """
    return ngettext(one, several, number, count=count(number), **values)


def listed(items: tuple[str, ...] | list[str]) -> str:
    """Return `a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return _("{items} and {last}", items=", ".join(items[:-1]), last=items[-1])


def visible(text: str) -> str:
    """Return prose with every character that could hide, reorder or cover text written as its code point."""
    return _spelt(text, dict.fromkeys(_KEPT_IN_PROSE, " "))


def visible_token(text: str) -> str:
    """Return a token with its line breaks and hidden characters spelt out, so that nothing in it is invisible."""
    return _spelt(text, {"\n": "\\n", "\t": "\\t", "\r": "\\r"})


def _spelt(text: str, written: Mapping[str, str]) -> str:
    # Most texts: nothing in them hides, and `written` names line breaks and the like alone.
    if text.isascii() and text.isprintable():
        return text
    parts, stacked = [], 0
    for char in text:
        category = unicodedata.category(char)
        stacked = stacked + 1 if category in _STACKING else 0
        hidden = category in _INVISIBLE or stacked > _MOST_STACKED
        parts.append(written.get(char) or (spelt_out(char) if hidden else char))
    return "".join(parts)


def spelt_out(char: str) -> str:
    """Return a character as its code point."""
    return f"{OPEN}U+{ord(char):04X}{CLOSE}"
