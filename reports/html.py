"""The HTML report: one file, no request, and nothing runs in it but the script whose hash its policy names."""

from __future__ import annotations

import base64
import hashlib
import json

from markupsafe import Markup

from audit.memory import rarely_collected
from audit.packing import pack
from reports.directions import isolated
from reports.language import _, speaking
from reports.rendering import AUDIT, MESSAGE, Layout, asset, asset_text, environment
from reports.view import Printable

_FONTS = (
    ("Affidavit Sans", "400", "normal", "NotoSans-Regular.woff2"),
    ("Affidavit Sans", "600", "normal", "NotoSans-SemiBold.woff2"),
    ("Affidavit Sans", "400", "italic", "NotoSans-Italic.woff2"),
    ("Affidavit Mono", "400", "normal", "JetBrainsMono-Regular.woff2"),
)


def render_html(view: Printable, *, findings_json: bytes, layout: Layout = AUDIT) -> bytes:
    """Return the report as one UTF-8 file that needs no network and embeds the record that it prints.

    Args:
        view: what to print.
        findings_json: the bytes of findings.json, or of the layout's other record. They are embedded packed
            (`audit.packing`), in the one element that a reader of any report looks for.
            They are those that `view` was read from or written to: the seal and `affidavit verify` compare them.
        layout: which kind of record is printed.
    """
    sheets = "".join(asset_text("css", name) for name in ("base.css", "screen.css", *layout.style))
    style = Markup(f"{_font_faces()}{sheets}")  # noqa: S704 - package data
    script = Markup(asset_text("report", "screen.js"))  # noqa: S704 - package data
    with speaking(view.language), rarely_collected():
        page = (
            environment()
            .get_template(layout.screen)
            .render(
                view=view,
                medium="html",
                policy=content_policy(style=style, script=script),
                style=style,
                script=script,
                words=_script_words(script),
                findings=pack(findings_json),
            )
        )
    return isolated(page).encode("utf-8")


def _script_words(script: str) -> Markup:
    """Return what the script says in the report's language, by its English messages; nothing where that is English."""
    words = {message: translated for message in MESSAGE.findall(script) if (translated := _(message)) != message}
    # As JSON in a page: no `<` may end the element that holds it.
    text = json.dumps(words, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c") if words else ""
    return Markup(text)  # noqa: S704 - quoted above


def content_policy(*, style: str, script: str) -> str:
    """Return the content security policy: nothing loads, and only this style and this script apply."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _font_faces() -> str:
    return "".join(
        f'@font-face{{font-family:"{family}";font-weight:{weight};font-style:{style};font-display:block;'
        f"src:url(data:font/woff2;base64,{base64.b64encode(asset('fonts', name)).decode('ascii')})}}\n"
        for family, weight, style, name in _FONTS
    )
