"""Find the findings inside report.html, in time linear in its size: the file may be hostile.

They are packed, gzip in base64: of a full audit they would be the larger part of the page.

Python's html.parser needs minutes for a crafted file of 150 kB. This scanner knows the little that matters: comments,
quoted attributes, and elements whose text is not markup. Whatever it cannot follow it refuses.
"""

from __future__ import annotations

import re

from audit.errors import EvidenceError
from audit.packing import PACKED_TYPE, PackingError, unpack

FINDINGS_ELEMENT = "affidavit-findings"

# Possessive quantifiers: nothing is tried twice.
_TAG = re.compile(r"""<(?P<close>/?)(?P<name>[a-zA-Z][^\s/>]*+)(?P<attributes>(?:[^>"']++|"[^"]*+"|'[^']*+')*+)>""")
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++)))?+""")
# HTML, section 13.2.5: in these elements a `<` does not start a tag or a comment.
_RAW_TEXT = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes", "noscript"})
_REFUSED = frozenset({"plaintext", "template"})
_SPECIAL = _RAW_TEXT | _REFUSED
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in _RAW_TEXT}


def findings_in_html(data: bytes, *, item: str) -> bytes:
    """Return what is packed in the one `<script type="application/gzip;base64" id="affidavit-findings">` element.

    Text in comments, attributes and other elements does not count.

    Raises:
        EvidenceError: not UTF-8, no such element, several, markup that this scanner does not follow to the end, or text
            that is not one gzip member of at most 256 MiB in base64.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_found(item, "a file that is not UTF-8") from error
    found: list[bytes] = []
    position = 0
    while (position := text.find("<", position)) >= 0:
        match = _TAG.match(text, position)
        if match is not None:
            name, position = match["name"].lower(), match.end()
            content = None
            if name in _SPECIAL and not match["close"]:
                content = _raw_text(text, name, position, item=item)
                position += len(content)
            if FINDINGS_ELEMENT in match["attributes"] and not match["close"]:
                found += _findings(name, match["attributes"], content, item=item)
        elif text.startswith("<!--", position):
            position = _after(text, "-->", position + 4, item=item)
        elif text.startswith(("<!", "<?"), position):
            position = _after(text, ">", position, item=item)
        elif text[position + 1 : position + 3].lstrip("/")[:1].isalpha():
            raise _not_found(item, f"a tag at character {position} that does not close")
        else:
            position += 1
    if len(found) != 1:
        raise _not_found(item, f"{len(found)} elements with that id")
    return _unpacked(found[0], item=item)


def _unpacked(text: bytes, *, item: str) -> bytes:
    try:
        return unpack(text)
    except PackingError as error:
        raise _not_found(item, str(error)) from error


def _raw_text(text: str, name: str, start: int, *, item: str) -> str:
    if name in _REFUSED:
        raise _not_found(item, f"a <{name}> element, which no report has")
    end = _RAW_END[name].search(text, start)
    if end is None:
        raise _not_found(item, f"a <{name}> element that does not close")
    return text[start : end.start()]


def _findings(name: str, attributes: str, content: str | None, *, item: str) -> list[bytes]:
    """Return the text if this is the findings element, and nothing if another attribute mentions its id."""
    values: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(attributes):
        # As in a browser, the first of two attributes with one name counts.
        values.setdefault(match[1].lower(), match[2] or match[3] or match[4] or "")
    if values.get("id") != FINDINGS_ELEMENT:
        return []
    if name != "script" or values.get("type") != PACKED_TYPE or content is None:
        raise _not_found(item, f"a <{name}> element with that id and another type")
    return [content.encode("utf-8")]


def _after(text: str, closing: str, position: int, *, item: str) -> int:
    end = text.find(closing, position)
    if end < 0:
        raise _not_found(item, f"markup at character {position} that does not close")
    return end + len(closing)


def _not_found(item: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=item,
        expected=f'the findings, once, as <script type="{PACKED_TYPE}" id="{FINDINGS_ELEMENT}">',
        found=found,
        hint="The report was changed, or was not made by affidavit. Get an intact copy of the bundle.",
    )
