"""The PDF report: tagged, archivable, the same bytes for the same input, with the findings attached."""

from __future__ import annotations

import gc
import hashlib
import re
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from string import Formatter
from typing import Any

from fontTools.ttLib import TTFont  # type: ignore[import-untyped] # it comes with WeasyPrint

from audit.errors import AffidavitError, EnvironmentProblem
from audit.memory import rarely_collected
from reports.finish import finish_pdf
from reports.language import _, speaking
from reports.numbers import CLOSE, OPEN, spelt_out
from reports.rendering import AUDIT, MESSAGE, Layout, asset, environment
from reports.view import Printable

SCHEME = "affidavit:"
INSTALL = "apt-get install -y libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fontconfig"
_ASSETS = {
    "css/base.css": "text/css",
    "css/pdf.css": "text/css",
    "css/difference.css": "text/css",
    "css/difference_pdf.css": "text/css",
    "fonts/NotoSans-Regular.ttf": "font/ttf",
    "fonts/NotoSans-SemiBold.ttf": "font/ttf",
    "fonts/NotoSans-Italic.ttf": "font/ttf",
    "fonts/JetBrainsMono-Regular.ttf": "font/ttf",
}
ASCII_LAST = 0x7F
BOX = "\N{WHITE SQUARE}"
# Style sheets with words in them.
_WORDED = frozenset({"css/pdf.css", "css/difference_pdf.css"})
_CSS_MESSAGE = re.compile(MESSAGE.pattern + r"\)")
_COUNTERS = {"page": "counter(page)", "pages": "counter(pages)"}
_CHART_TEXT = re.compile(r"<text\b[^>]*>[^<]*</text>")
_RELATIONSHIPS = {"findings.json": "Data", "diff.json": "Data", "manifest.json": "Supplement"}


def check_pdf_libraries() -> None:
    """Find out at once whether the PDF can be made, instead of after the audit.

    Raises:
        EnvironmentProblem: Pango, HarfBuzz or fontconfig cannot be loaded; the hint is the command that installs them.
    """
    _weasyprint()


def render_pdf(
    view: Printable, *, attachments: Mapping[str, bytes], created_at: datetime, layout: Layout = AUDIT
) -> bytes:
    """Return the report, built to PDF/A-3a and PDF/UA-1. Equal arguments give equal bytes.

    Args:
        view: what to print.
        attachments: file name -> bytes, embedded in the order of their names.
        created_at: the moment written into the file; a moment without a zone is refused.
        layout: which kind of record is printed.

    Raises:
        EnvironmentProblem: a library is missing.
        AffidavitError: `created_at` has no time zone.
    """
    if created_at.tzinfo is None:
        raise AffidavitError(
            item="created_at",
            expected="a moment with a time zone",
            found=created_at.isoformat(),
            hint="Pass a datetime with a tzinfo.",
        )
    weasyprint = _weasyprint()
    moment = created_at.astimezone(UTC).replace(microsecond=0)
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}+00:00"
    with speaking(view.language):
        text = (
            environment()
            .get_template(layout.paper)
            .render(
                view=view,
                medium="pdf",
                created=stamp,
                author=view.author,
                sheets=("base.css", "pdf.css", *layout.paper_style),
            )
        )
        # Neither what was printed nor its markup is needed while it is drawn, which takes the most memory.
        del view
        identifier = _identifier(text, attachments)
        gc.collect()
        with warnings.catch_warnings(), rarely_collected():
            # WeasyPrint 70 leaves the ICC profile's file to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            document = weasyprint.HTML(string=_drawable(text), base_url=SCHEME, url_fetcher=_fetch)
            del text
            raw: bytes = document.write_pdf(
                pdf_variant="pdf/a-3a",
                pdf_tags=True,
                pdf_identifier=identifier,
                attachments=_attached(weasyprint, attachments, moment, layout.attached),
            )
        return finish_pdf(raw)


def _attached(
    weasyprint: Any,  # noqa: ANN401 - see `_weasyprint`
    attachments: Mapping[str, bytes],
    moment: datetime,
    described: Mapping[str, str],
) -> list[Any]:
    return [
        weasyprint.Attachment(
            string=attachments[name],
            name=name,
            description=_(described[name]) if name in described else name,
            created=moment,
            modified=moment,
            relationship=_RELATIONSHIPS.get(name, "Data"),
            url_fetcher=_fetch,
        )
        for name in sorted(attachments)
    ]


def _identifier(page: str, attachments: Mapping[str, bytes]) -> bytes:
    """Return the file identifier: a digest of everything that goes in, so that it changes with the content alone.

    The moment of creation stands in the page.
    """
    state = hashlib.sha256(page.encode("utf-8"))
    for name in sorted(attachments):
        state.update(hashlib.sha256(name.encode("utf-8")).digest())
        state.update(hashlib.sha256(attachments[name]).digest())
    return state.hexdigest()[:32].encode("ascii")


# Any: WeasyPrint has no types, and its classes exist only once its libraries are loaded.
def _weasyprint() -> Any:  # noqa: ANN401
    try:
        import weasyprint  # noqa: PLC0415 - loads shared libraries: a missing one must not break `import reports.pdf`
    except OSError as error:
        raise EnvironmentProblem(
            item="PDF libraries",
            expected="Pango, HarfBuzz and fontconfig",
            found=str(error).splitlines()[0],
            hint=f"Install them: {INSTALL}",
        ) from error
    return weasyprint


def _fetch(url: str) -> Any:  # noqa: ANN401 - WeasyPrint's response class
    """Serve the report's own assets and nothing else: neither a file nor a network address."""
    from weasyprint.urls import FatalURLFetchingError, URLFetcherResponse  # noqa: PLC0415 - see `_weasyprint`

    name = url.removeprefix(SCHEME)
    if not url.startswith(SCHEME) or name not in _ASSETS:
        raise FatalURLFetchingError(f"The report may not load {url}")
    content = asset(*name.split("/"))
    if name in _WORDED:
        content = _CSS_MESSAGE.sub(lambda message: _css_string(_(message[1])), content.decode("utf-8")).encode("utf-8")
    return URLFetcherResponse(url, content, {"Content-Type": _ASSETS[name]})


def _css_string(text: str) -> str:
    """Return a message as the value of CSS `content`, with the counters in the place of its placeholders."""
    parts = []
    for literal, name, *_rest in Formatter().parse(text):
        if literal:
            escaped = re.sub(r'["\\\n]', lambda char: f"\\{ord(char[0]):x} ", literal)
            parts.append(f'"{escaped}"')
        if name is not None:
            parts.append(_COUNTERS[name])
    return " ".join(parts)


@cache
def _covered() -> frozenset[int]:
    fonts = (TTFont(BytesIO(asset("fonts", name))) for name in ("NotoSans-Regular.ttf", "JetBrainsMono-Regular.ttf"))
    return frozenset(code for font in fonts for code in font.getBestCmap())


def _drawable(page: str) -> str:
    """Write characters that the vendored fonts lack as code points: a system's font would differ by machine.

    A space between two of them lets a line break there. In charts, where a label has its place, a box stands for each.
    """
    covered = _covered()
    lacking = "".join(sorted(char for char in {*page} if ord(char) > ASCII_LAST and ord(char) not in covered))
    if lacking:
        page = _CHART_TEXT.sub(lambda text: re.sub(f"[{lacking}]", BOX, text[0]), page)
        page = re.sub(f"[{lacking}]", lambda char: spelt_out(char[0]), page)
    return page.replace(f"{CLOSE}{OPEN}U+", f"{CLOSE} {OPEN}U+")
