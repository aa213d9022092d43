"""Loads templates, styles and fonts from the installed `templates` package, and from nowhere else."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from audit.packing import PACKED_TYPE, pack

PACKAGE = "templates"


def environment() -> Environment:
    """Return the one template environment: undefined names are errors, and every value is escaped."""
    found = Environment(
        loader=PackageLoader(PACKAGE, package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    found.filters["packed"] = lambda markup: pack(str(markup).encode("utf-8"))
    found.globals["packed_type"] = PACKED_TYPE
    return found


def asset(*parts: str) -> bytes:
    """Return the bytes of a file of the `templates` package."""
    return files(PACKAGE).joinpath(*parts).read_bytes()


def asset_text(*parts: str) -> str:
    """Return a text file of the `templates` package."""
    return asset(*parts).decode("utf-8")
