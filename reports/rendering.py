"""Loads templates, styles and fonts from the installed `templates` package, and from nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from audit.digests import digest_code
from audit.packing import PACKED_TYPE, pack
from reports.directions import isolated
from reports.language import N_, _, ngettext
from reports.table_rows import cell_markup, marked, table_bodies

PACKAGE = "templates"
# A message in a style sheet or a script, as gettext's extractors find it there too.
MESSAGE = re.compile(r'_\("([^"\\]+)"')
# What decides how a record is printed: the reports, their templates, and what they take of `audit` beside records.
_PRINTING = ("reports", PACKAGE, "audit.exports", "audit.frameworks", "audit.records")
_PRINTING_FILES = ("graph.py", "packing.py")
# What a link can lead to; the inner parts of a drawing are no such thing.
_TARGET = re.compile(r'<(?:div|section|article|table|p|h[1-6]|svg)\b[^>]* id="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind of record is printed, on a screen and on paper.

    Args:
        record: the file that holds what is printed; it is attached to the PDF and embedded into the page.
        screen, paper: templates.
        style: style sheets of this kind, after the ones that every kind shares; those of the screen.
        paper_style: and those of the PDF.
        attached: file name -> what a reader of the PDF is told of it.
    """

    record: str
    screen: str
    paper: str
    style: tuple[str, ...] = ()
    paper_style: tuple[str, ...] = ()
    attached: Mapping[str, str] = field(default_factory=dict)


AUDIT = Layout(
    record="findings.json",
    screen="report/screen.html.j2",
    paper="report/pdf.html.j2",
    attached={
        "findings.json": N_("The machine-readable findings that this report prints"),
        "manifest.json": N_("The manifest of the evidence bundle"),
    },
)
DIFFERENCE = Layout(
    record="diff.json",
    screen="report/difference_screen.html.j2",
    paper="report/difference_pdf.html.j2",
    style=("difference.css",),
    paper_style=("difference.css", "difference_pdf.css"),
    attached={
        "diff.json": N_("The machine-readable difference that this report prints"),
        "manifest.json": N_("The manifest of the difference: its circumstances and the digests of its files"),
    },
)


@cache
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
    found.filters["marked"] = marked
    found.filters["cell"] = cell_markup
    found.globals["bodies"] = table_bodies
    found.filters["packed"] = lambda markup: pack(isolated(str(markup)).encode("utf-8"))
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
