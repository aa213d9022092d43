"""Text that somebody wrote stays text in every export: no markup, no link, no placeholder, nothing hidden."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree.ElementTree import fromstring

import pytest
from markdown_it import MarkdownIt

from audit.exports.formats import make_exports
from audit.exports.source import line
from audit.exports.step_summary import LIMIT_BYTES, as_text, step_summary
from tests.exports.records import source_of, strange
from tests.reports.fixtures.audits import make_findings
from tests.reports.fixtures.strange import KINDS, MARKUP, WRITING

MARKDOWN = (
    "![x](http://a.b/c) [click](javascript:alert(1)) `code` **bold** | cell | <b>x</b> &lt; # @octocat #1 GH-2 :tada:"
    " www.example.org https://example.org a@b.org ~~gone~~ $x^2$ \\| ]( <!-- c --> </td>"
)
LEADING = (
    "- item",
    "1. item",
    "1) item",
    "# title",
    "+ item",
    "> quote",
    "=== ",
    "--- ",
    "    code",
    "```",
    "| a |",
    "[^1]: x",
)
CONTROLS = set(map(chr, (*range(9), 11, 12, *range(14, 32), 127))) | set("\u202a\u202e\u2066\u2069\u200b\ufeff\u0085")
LINK = re.compile(r"(?<!\\)(?:\\\\)*\[[^\]]*(?<!\\)(?:\\\\)*\]\(")


class Seen(HTMLParser):
    """Every tag and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag and what it carries."""
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.texts.append(data)


def rendered(markdown: str) -> Seen:
    """Return what a page of GitHub's Markdown shows: tables and strikethrough on, HTML let through."""
    page = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    seen = Seen()
    seen.feed(page)
    return seen


@pytest.mark.parametrize("first", range(len(KINDS)))
def test_the_summary_holds_no_markup_of_others(first: int) -> None:
    """Only the tags that this page writes; what somebody wrote is shown as it is, up to its length."""
    seen = rendered(make_exports(strange(first))["exports/summary.md"].decode())
    own = {"h1", "h2", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code", "span"}
    assert seen.tags <= own
    assert seen.attributes == []
    text = "".join(seen.texts)
    assert line(MARKUP)[:150] in text or line(WRITING)[:60] in text


@pytest.mark.parametrize("text", [MARKDOWN, *LEADING, *KINDS])
@pytest.mark.parametrize("frame", ["{}", "- {}", "| {} |\n|---|\n| {} |", "text {} text"])
def test_a_text_is_shown_and_does_nothing(text: str, frame: str) -> None:
    """In a line of its own, a list, a table or a sentence."""
    seen = rendered(frame.replace("{}", as_text(text, 10_000)))
    assert seen.tags <= {"p", "ul", "li", "span", "table", "thead", "tbody", "tr", "th", "td"}
    assert seen.attributes == []
    assert line(text) in " ".join("".join(seen.texts).split())


def test_github_finds_no_mention_issue_emoji_or_link() -> None:
    """These are looked for in the text between tags: the mark that would begin one stands alone there."""
    written = as_text(MARKDOWN, 10_000)
    between = re.split(r"<[^>]*>", written)
    for part in (re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), one) for one in between):
        assert not re.search(r"@\w|#\d|:\w+:|://|\w@", part)
    assert "www." not in written
    assert not re.search(r"(?i)gh-\d", written)


@pytest.mark.parametrize("first", range(len(KINDS)))
def test_sarif_messages_hold_no_link_and_no_placeholder(first: int) -> None:
    """SARIF viewers make `[text](target)` a link and `{0}` an argument."""
    source = strange(first)
    findings = source.findings
    title = "[x](javascript:1) \\[y](z) [a\\](b) {0} {{1}}"
    source = replace(
        source,
        findings=replace(findings, concepts=tuple(replace(one, title=title) for one in findings.concepts)),
    )
    run = json.loads(make_exports(source)["exports/report.sarif"])["runs"][0]
    texts = [result["message"]["text"] for result in run["results"]]
    texts += [note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]]
    texts += [rule[key]["text"] for rule in run["tool"]["driver"]["rules"] for key in ("fullDescription", "help")]
    assert any("javascript" in text for text in texts)
    for text in texts:
        assert not LINK.search(text)
        assert not re.search(r"[{}]", text.replace("{{", "").replace("}}", ""))


@pytest.mark.parametrize("first", range(len(KINDS)))
def test_nothing_hidden_is_in_any_export(first: int) -> None:
    """Control characters and overrides are spelt out, also those that XML forbids; line breaks are the file's own."""
    for name, content in make_exports(strange(first)).items():
        said = content.decode()
        if name.endswith(("json", "sarif")):
            said = "".join(_strings(json.loads(said)))
        assert not CONTROLS & set(said), name


@pytest.mark.parametrize("first", range(len(KINDS)))
def test_junit_holds_its_own_elements_only(first: int) -> None:
    """Markup in titles and reasons is text of the elements that the format has."""
    root = fromstring(make_exports(strange(first))["exports/junit.xml"])  # noqa: S314 - made here
    known = {"testsuites", "testsuite", "properties", "property", "testcase", "skipped", "system-out"}
    assert {element.tag for element in root.iter()} == known
    names = {case.get("name") for case in root.iter("testcase")}
    assert any(name is not None and line(KINDS[first]) in name for name in names) or first


def test_only_packages_are_libraries() -> None:
    """What the environment of a record names is a library only if it has the form of a name and a version."""
    tools = json.loads(make_exports(strange(0))["exports/ml-bom.cdx.json"])["metadata"]["tools"]["components"]
    assert [tool.get("purl") for tool in tools] == [None, "pkg:pypi/torch@2.9.0"]


def test_a_summary_of_many_concepts_stays_below_the_limit() -> None:
    """It says how many it leaves out, and where they are."""
    findings = make_findings()
    one = replace(findings.concepts[0], contrasts=(), title=MARKUP * 3)
    many = tuple(replace(one, id=f"concept_{number:05}") for number in range(2000))
    page = step_summary(source_of(replace(findings, concepts=many)))
    assert LIMIT_BYTES // 2 < len(page) <= LIMIT_BYTES
    rows = len(re.findall(rb"^\| .*healthcare|^\| .*script", page, re.MULTILINE))
    left = re.search(r"([\d\u202f]+) more concepts are in report\.html", page.decode())
    assert left is not None
    assert rows + int(left[1].replace("\u202f", "")) == 2000


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for key, child in value.items() for text in (key, *_strings(child))]
    if isinstance(value, list):
        return [text for child in value for text in _strings(child)]
    return [value] if isinstance(value, str) else []
