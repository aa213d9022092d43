"""Every word that the reports print comes from the catalogue, and each report is printed in its own language."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import polib
import pytest
from pypdf import PdfReader

from audit.config import parse_config
from audit.digests import canonical_json, digest_code
from audit.errors import EnvironmentProblem, UsageError
from audit.pipeline import run_audit
from audit.printed import REPORT_CODE, html_difference
from audit.printing import Record, html_report
from audit.progress import Silent
from audit.recomputation import checks
from audit.records import Findings, as_json
from audit.request import AuditRequest
from audit.signing.bundle_files import MANIFEST, REPORT_HTML, REPORT_PDF
from audit.signing.checks import CheckStatus
from audit.signing.keys import Signer
from reports import language, rendering, words
from reports.context import build_view
from reports.html import render_html
from reports.language import N_, _, languages, ngettext, parse_language, placeholders, speaking
from reports.numbers import plural
from reports.pdf import render_pdf
from reports.rendering import code_digest
from reports.view import ReportView
from tests.reports.catalogue import TEMPLATE, messages
from tests.reports.fixtures.audits import make_run
from tests.reports.translated import (
    COPY,
    PSEUDO,
    STORED,
    Words,
    empty,
    failed,
    left_in_english,
    many,
    pseudo,
    pseudo_file,
    record_texts,
    run_in,
)
from tests.test_browser import open_page

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of languages with the pseudo-language in it, in the place of the package's."""
    (tmp_path / TEMPLATE.name).write_text(str(messages()), encoding="utf-8")
    (tmp_path / f"{PSEUDO}.po").write_text(pseudo_file(), encoding="utf-8")
    monkeypatch.setattr(language, "_folder", lambda: tmp_path)
    language._read.cache_clear()
    yield tmp_path
    language._read.cache_clear()


@pytest.mark.parametrize("case", ["whole", "one SAE", "many", "failed", "empty", "copy"])
def test_every_word_comes_from_the_catalogue(
    case: str, folder: Path, findings: Findings, lone_findings: Findings
) -> None:
    """In the pseudo-language nothing is left in our letters but what the record says, and what no language changes."""
    assert PSEUDO in languages(), folder
    changed = {"many": many, "failed": failed, "empty": empty}.get(case, lambda record: record)
    record = changed(lone_findings if case == "one SAE" else findings)
    run = run_in(record, PSEUDO)
    view = build_view(record, run, withheld=COPY if case == "copy" else None)
    page = page_of(view, record)
    assert len(page.found) > 300
    assert view.reproducibility.untranslated == ""
    known = record_texts(record, run)
    assert left_in_english(page.found, known) == []
    # Drawings break titles of the record over lines and shorten them.
    pieces = {piece for text in known for piece in text.split()}
    drawn = [text for text in page.drawn if set(text.rstrip("…").split()) - pieces]
    assert left_in_english(drawn, known) == []


def page_of(view: ReportView, record: Findings) -> Words:
    """Return what the page of a view says."""
    return Words(render_html(view, findings_json=canonical_json(as_json(record))).decode("utf-8"))


def test_the_walk_sees_a_message_that_is_not_translated(folder: Path, lone_findings: Findings) -> None:
    """Without every fourth message the walk finds words in our letters, and the report says how many are missing."""
    entries = polib.pofile(str(folder / f"{PSEUDO}.po"))
    gone = entries[::4]
    for entry in gone:
        entries.remove(entry)
    (folder / f"{PSEUDO}.po").write_text(str(entries), encoding="utf-8")
    run = run_in(lone_findings, PSEUDO)
    view = build_view(lone_findings, run)
    left = left_in_english(page_of(view, lone_findings).found, record_texts(lone_findings, run))
    assert len(left) > 50
    assert str(len(gone)) in view.reproducibility.untranslated


def test_the_template_is_what_the_reports_print() -> None:
    """A message that was changed, added or dropped is in the template; `make catalogue` writes it."""
    assert TEMPLATE.read_text(encoding="utf-8") == str(messages())


def test_each_message_is_one_entry_with_sound_placeholders() -> None:
    """No text stands twice, once alone and once with a plural, and every brace holds a name."""
    entries = messages()
    assert len({entry.msgid for entry in entries}) == len(entries)
    for entry in entries:
        for text in filter(None, (entry.msgid, entry.msgid_plural)):
            assert text == text.strip(), text
            assert placeholders(text) is not None, text
        if entry.msgid_plural:
            one, several = placeholders(entry.msgid) or set(), placeholders(entry.msgid_plural) or set()
            assert several - one <= {"count"}, entry.msgid
            assert one <= several, entry.msgid


def test_every_stored_word_has_a_message() -> None:
    """What a record stores as a word is printed through the catalogue."""
    assert set(words.STORED) >= STORED


def test_each_report_keeps_its_own_language(folder: Path, lone_findings: Findings) -> None:
    """A report in another language leaves no trace in the next one, nor in one that fails."""
    assert folder.is_dir()
    before = build_view(lone_findings, make_run(lone_findings))
    other = build_view(lone_findings, run_in(lone_findings, PSEUDO))
    assert (before.language, other.language) == ("en", PSEUDO)
    with speaking(PSEUDO), speaking("en"):
        assert _("Findings") == "Findings"
    with pytest.raises(ValueError, match="given up"), speaking(PSEUDO):
        raise ValueError("given up")
    assert _("Findings") == "Findings"
    assert build_view(lone_findings, make_run(lone_findings)) == before
    page = render_html(other, findings_json=b"{}").decode("utf-8")
    assert f'<html lang="{PSEUDO}">' in page
    dictionary = json.loads(page.partition('id="affidavit-words">')[2].partition("<")[0])
    assert dictionary["All {count} rows are shown"] == pseudo("All {count} rows are shown")
    assert 'id="affidavit-words"' not in render_html(before, findings_json=b"{}").decode("utf-8")


def test_the_script_speaks_the_language(folder: Path, findings: Findings, tmp_path: Path) -> None:
    """What the page adds when its script runs is translated, and the page's policy lets it read its words."""
    record = many(findings)
    page = tmp_path / "report.html"
    page.write_bytes(render_html(build_view(record, run_in(record, PSEUDO)), findings_json=b"{}"))
    profile = folder / "profile"
    profile.mkdir()
    opened = open_page(page, profile)
    assert opened.console == ()
    assert len(re.findall(rf">{pseudo('Show all')} \d+ {pseudo('rows')}</button>", opened.dom)) > 1
    assert "Show all" not in opened.dom.partition('id="affidavit-words"')[0]


def test_the_pdf_is_in_the_language(folder: Path, lone_findings: Findings) -> None:
    """Its catalogue names the language, and the lines at the foot of its pages are messages too."""
    assert folder.is_dir()
    view = build_view(lone_findings, run_in(lone_findings, PSEUDO))
    made = render_pdf(view, attachments={"manifest.json": b"{}"}, created_at=MOMENT)
    reader = PdfReader(BytesIO(made))
    assert reader.trailer["/Root"]["/Lang"] == PSEUDO
    text = " ".join(reader.pages[2].extract_text().split())
    assert pseudo("Feature effects: confirmation split only.") in text
    assert f"{pseudo('Page')} 3 {pseudo('of')} {len(reader.pages)}" in text
    assert "Page" not in text


def test_a_bundle_is_printed_again_in_its_language(folder: Path, lone_findings: Findings, tmp_path: Path) -> None:
    """The record decides; a manifest that names a language which this code never had is at fault, not its reader."""
    assert folder.is_dir()
    content = canonical_json(as_json(lone_findings))
    record = Record(lone_findings, run_in(lone_findings, PSEUDO), content, b"{}")
    assert (
        html_difference(html_report(record), render_html(build_view(lone_findings, record.run), findings_json=content))
        == ""
    )
    run = run_in(lone_findings, "xx")
    forged = replace(record, run=replace(run, environment={REPORT_CODE: code_digest()}))
    for name in (REPORT_HTML, REPORT_PDF):
        (tmp_path / name).write_bytes(b"")
    found = checks._printed(tmp_path, forged)
    assert (found.status, found.files) == (CheckStatus.FAIL, (MANIFEST,))
    assert "report.language" in found.detail


def test_an_audit_in_an_unknown_language_does_not_start(signer: Signer, tmp_path: Path) -> None:
    """The error comes before the model is loaded, and nothing is written."""
    config = parse_config({"report": {"language": "xx"}}, origin="audit.toml")
    request = AuditRequest(config, tmp_path / "out", signer, MOMENT, "affidavit run")
    with pytest.raises(UsageError, match=r"report\.language"):
        run_audit(request, progress=Silent())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("code", ["xx", "EN", "", "../affidavit", f"{PSEUDO}.po"])
def test_an_unknown_language_is_one_clear_error(code: str, folder: Path, lone_findings: Findings) -> None:
    """The error lists what there is; no path comes of a code."""
    assert folder.is_dir()
    with pytest.raises(UsageError) as caught:
        build_view(lone_findings, run_in(lone_findings, code))
    assert caught.value.item == "report.language"
    assert caught.value.expected == f"one of en, {PSEUDO}"


@pytest.mark.parametrize(
    ("message", "translation"),
    [
        ("Reason: {reason}", "Grund"),
        ("Reason: {reason}", "Grund: {grund}"),
        ("Reason: {reason}", "Grund: {reason!r}"),
        ("Reason: {reason}", "Grund: {reason.__class__}"),
        ("Reason: {reason}", "Grund: {reason"),
        ("Findings", "Befunde {0}"),
    ],
)
def test_a_translation_that_would_fail_is_refused(message: str, translation: str) -> None:
    """Placeholders are compared when a file is read, not when a message is printed."""
    text = (
        f'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "{message}"\nmsgstr "{translation}"\n'
    )
    with pytest.raises(EnvironmentProblem) as caught:
        parse_language("de", text, template=str(messages()))
    assert caught.value.item == "templates/languages/de.po, line 4"


@pytest.mark.parametrize(
    "text", ["", "Findings = Befunde\n", 'msgid "Findings\n', 'msgid "Befunde"\nmsgstr "Findings"\n']
)
def test_a_damaged_file_is_refused(text: str) -> None:
    """What is no .po file, or one for something else, makes no report."""
    with pytest.raises(EnvironmentProblem) as caught:
        parse_language("de", text, template=str(messages()))
    assert caught.value.item == "templates/languages/de.po"


def test_a_language_may_have_more_forms_than_english(folder: Path) -> None:
    """The file says which form a number takes."""
    (folder / "pl.po").write_text(
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
        '"Plural-Forms: nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);\\n"\n\n'
        'msgid "{count} feature"\nmsgid_plural "{count} features"\n'
        'msgstr[0] "jedna cecha"\nmsgstr[1] "{count} cechy"\nmsgstr[2] "{count} cech"\n',
        encoding="utf-8",
    )
    with speaking("pl") as chosen:
        said = [plural(number, "{count} feature", "{count} features") for number in (1, 3, 5, 22)]
        assert ngettext("{count} pair", "{count} pairs", 2, count=2) == "2 pairs"
    assert said == ["jedna cecha", "3 cechy", "5 cech", "22 cechy"]
    assert chosen.missing == chosen.total - 1


def test_the_empty_text_stays_empty(folder: Path) -> None:
    """Gettext keeps the head of a file under the empty message; no report prints it."""
    assert folder.is_dir()
    with speaking(PSEUDO):
        assert _("") == ""
    assert N_("Findings") == "Findings"


def test_the_files_of_languages_count_as_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another translation makes other reports, so the digest of the report's code covers them."""
    package = tmp_path / "covered"
    shutil.copytree(TEMPLATE.parent, package / TEMPLATE.parent.name)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "templates" in rendering._PRINTING
    assert TEMPLATE.is_relative_to(Path(str(files("templates"))))
    before = digest_code(["covered"])
    (package / TEMPLATE.parent.name / "xx.po").write_text('msgid "Model"\nmsgstr "x"\n')
    assert digest_code(["covered"]) != before
