"""The HTML report needs nothing and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from audit.digests import digest_json
from audit.packing import PACKED_TYPE, unpack
from audit.records import Findings, as_json
from reports.html import render_html
from reports.view import ReportView

HOSTILE = "</script><img src=x onerror=alert(1)><!--"
LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "formaction", "poster", "background"}
SIZE_LIMIT_BYTES = 3_000_000
SLUG_OF_OTHER = "smollm2-135m-instruct-resid-post-20"
BASE_SCOPES = {"all", "plain", "chat"}


class Page(HTMLParser):
    """Collects tags, attributes and the text of script and style elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[tuple[str, dict[str, str | None], str]] = []
        self._open: tuple[str, dict[str, str | None]] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag, and whether its text is wanted."""
        self.tags.append((tag, dict(attrs)))
        if tag in {"script", "style"}:
            self._open = (tag, dict(attrs))

    def handle_data(self, data: str) -> None:
        """Keep the text of a script or a style."""
        if self._open:
            self.inline.append((*self._open, data))
            self._open = None


@pytest.fixture(scope="module")
def page_text(view: ReportView, findings_json: bytes) -> str:
    """The report as text."""
    return render_html(view, findings_json=findings_json).decode("utf-8")


@pytest.fixture(scope="module")
def page(page_text: str) -> Page:
    """The report, parsed."""
    return Page(page_text)


def test_equal_input_gives_equal_bytes(view: ReportView, findings_json: bytes, page_text: str) -> None:
    """Rendering has no clock and no chance in it, and the file stays small."""
    again = render_html(view, findings_json=findings_json)
    assert again == page_text.encode("utf-8")
    assert len(again) < SIZE_LIMIT_BYTES


def test_nothing_is_loaded(page: Page) -> None:
    """Every address is a fragment of the same page."""
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base"}
        for name in LOADING & set(attributes):
            assert str(attributes[name]).startswith("#"), (tag, attributes)


def test_no_inline_style_or_handler(page: Page) -> None:
    """Nothing depends on what the policy forbids."""
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag


def test_policy_names_exactly_what_is_inline(page: Page) -> None:
    """The hashes in the policy are those of the style and the script that stand in the file."""
    policy = next(str(a["content"]) for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    expected = {
        f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for tag, attributes, text in page.inline
        if attributes.get("type") != PACKED_TYPE
    }
    assert len(expected) == 2
    assert expected <= {part.strip() for part in policy.split(";")}
    assert policy.count("sha256-") == 2


def test_embedded_findings_are_the_findings(page: Page, findings: Findings) -> None:
    """What is unpacked from the page has the digest of findings.json."""
    text = next(text for _, attributes, text in page.inline if attributes.get("id") == "affidavit-findings")
    assert "<" not in text
    assert digest_json(json.loads(unpack(text))) == digest_json(as_json(findings))


def test_hostile_text_is_inert(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """Markup in a token, a title, a name or a chart label is text."""
    concept = replace(findings.concepts[0], title=HOSTILE, definition=HOSTILE, why=HOSTILE)
    changed = replace(findings, concepts=(concept,), model=replace(findings.model, name=HOSTILE), not_tested=(HOSTILE,))
    text = render_html(view_of(changed), findings_json=json.dumps(as_json(changed)).encode()).decode()
    hostile = Page(text)
    assert not [tag for tag, attributes in hostile.tags if tag == "img" or "onerror" in attributes]
    scripts = [attributes.get("type") for tag, attributes in hostile.tags if tag == "script"]
    assert scripts.count(None) == 1
    assert set(scripts) == {None, PACKED_TYPE}
    for _, attributes, packed in hostile.inline:
        if "data-rows" in attributes:
            assert "<img" not in unpack(packed).decode()
    assert "<!--" not in text


def test_structure_for_assistive_technology(page: Page) -> None:
    """One h1, no skipped heading level, landmarks, a skip link, captions and scopes, unique ids."""
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    names = [tag for tag, _ in page.tags]
    for landmark in ("main", "nav", "header", "footer"):
        assert landmark in names
    assert names.count("caption") == names.count("table")
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    skip = next(attributes for tag, attributes in page.tags if attributes.get("class") == "skip")
    assert str(skip["href"]).removeprefix("#") in ids


def test_every_fragment_leads_somewhere(page: Page) -> None:
    """No link and no chart reference is dead."""
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for _, attributes in page.tags:
        for name in ("href", "xlink:href"):
            if name in attributes:
                assert str(attributes[name]).removeprefix("#") in ids


def test_charts_have_a_text_alternative(page: Page) -> None:
    """Each chart is an image with a title and a description."""
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    # Three overviews, two of fidelity, two of training, two a concept; a matrix, a network and the doses.
    assert len(charts) == 3 + 2 + 2 + 6 + 3
    assert all(chart["role"] == "img" and chart["aria-labelledby"] for chart in charts)
    assert [tag for tag, _ in page.tags].count("desc") == len(charts)


def test_activation_is_not_shown_by_colour_alone(page: Page) -> None:
    """A token that fires carries its value as text."""
    tokens = [a for tag, a in page.tags if tag == "span" and "act-" in str(a.get("class"))]
    assert tokens
    assert all(str(token["title"]).startswith("activation ") for token in tokens)


def test_an_empty_audit_renders(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """Nothing audited is a report that says so."""
    empty = replace(findings, concepts=(), cards=(), suites=(), ladder={}, not_tested=())
    assert "An empty audit is not a pass" in render_html(view_of(empty), findings_json=b"{}").decode()


def test_every_instrument_and_its_certificate_are_in_the_page(page: Page, page_text: str, findings: Findings) -> None:
    """Each SAE's digest is printed in full, and the contents lead to each certificate."""
    body = page_text.partition(f'<script type="{PACKED_TYPE}"')[0]
    links = {str(attributes["href"]) for tag, attributes in page.tags if tag == "a" and "href" in attributes}
    for result, place in zip(findings.saes, ("certificate", f"certificate-{SLUG_OF_OTHER}"), strict=True):
        certificate = result.certificate
        assert certificate is not None
        assert result.record.digest in body
        assert certificate.text_digest in body
        assert f"#{place}" in links
        section = body.partition(f'id="{place}"')[2].partition("</section>")[0]
        assert result.record.digest in section
        assert all(f">{row.scope}</th>" in section for row in certificate.rows if row.scope not in BASE_SCOPES)


def test_ids_of_the_main_instrument_carry_no_name(page: Page) -> None:
    """Links to the main instrument's tables survive a second instrument, whose tables are named after it."""
    ids = {str(attributes["id"]) for _, attributes in page.tags if "id" in attributes}
    for stem in ("features-dosing-error-topic", "baselines-dosing-error-topic", "effects-dosing-error"):
        assert {stem, f"{stem}-{SLUG_OF_OTHER}"} <= ids


def test_one_instrument_needs_no_number(lone_view: ReportView, lone_findings: Findings) -> None:
    """With one SAE nothing is numbered, no heading is spent on it, and its missing certificate is said."""
    text = render_html(lone_view, findings_json=json.dumps(as_json(lone_findings)).encode()).decode()
    body = text.partition(f'<script type="{PACKED_TYPE}"')[0]
    assert "Instrument 1" not in body
    assert "<h6" not in body
    assert "has no certificate for this model" in body
    assert "Reason given: made for another model" in body
    assert 'href="#certificate"' in body
