"""Loads templates, styles and fonts from the installed `templates` package, and from nowhere else."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from audit.digests import digest_code
from audit.packing import PACKED_TYPE, pack
from reports.language import _, ngettext

PACKAGE = "templates"
# A message in a style sheet or a script, as gettext's extractors find it there too.
MESSAGE = re.compile(r'_\("([^"\\]+)"')
# What decides how a record is printed: the reports, their templates, and what they take of `audit` beside records.
_PRINTING = ("reports", PACKAGE, "audit.exports", "audit.frameworks", "audit.records")
_PRINTING_FILES = ("graph.py", "packing.py")
# What a link can lead to; the inner parts of a drawing are no such thing.
_TARGET = re.compile(r'<(?:div|section|article|table|p|h[1-6]|svg)\b[^>]* id="([^"]+)"')


def environment() -> Environment:
    """Return the one template environment: undefined names are errors, and every value is escaped.

    Its messages are printed in the language of the block that renders a template (`reports.language.speaking`).
    """
    found = Environment(
        loader=PackageLoader(PACKAGE, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    # The extension adds this method; the messages have placeholders of their own, so they keep the old style.
    found.install_gettext_callables(_, ngettext, newstyle=False)  # type: ignore[attr-defined]
    found.filters["packed"] = lambda markup: pack(str(markup).encode("utf-8"))
    found.filters["ids"] = lambda markup: " ".join(_TARGET.findall(str(markup)))
    found.globals["packed_type"] = PACKED_TYPE
    return found


@cache
def code_digest() -> str:
    """Return the SHA-256 over the files that decide how a record is printed.

    The same files give the same pages, as far as the libraries that draw them are the same.
    """
    return digest_code(_PRINTING, besides=dict.fromkeys(_PRINTING_FILES, "audit"))


def asset(*parts: str) -> bytes:
    """Return the bytes of a file of the `templates` package."""
    return files(PACKAGE).joinpath(*parts).read_bytes()


def asset_text(*parts: str) -> str:
    """Return a text file of the `templates` package."""
    return asset(*parts).decode("utf-8")
