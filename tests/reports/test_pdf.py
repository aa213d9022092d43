"""The PDF is tagged, archivable, the same every time, and carries the findings."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from audit.errors import AffidavitError, EnvironmentProblem, ExitCode
from audit.records import Findings, RunInfo
from reports.context import build_view
from reports.pdf import INSTALL, check_pdf_libraries, render_pdf
from reports.view import ReportView

CREATED = datetime(2026, 11, 22, 8, 5, tzinfo=UTC)
MANIFEST = b'{"manifest":true}'
HOSTILE = "</script><img src=http://127.0.0.1:1/x onerror=alert(1)><link rel=stylesheet href=file:///etc/passwd>"
PAINTING = {"Tj", "TJ", "'", '"', "f", "F", "f*", "S", "s", "B", "B*", "b", "b*", "sh", "Do"}


@pytest.fixture(scope="session")
def attachments(findings_json: bytes) -> dict[str, bytes]:
    """What the pipeline attaches."""
    return {"findings.json": findings_json, "manifest.json": MANIFEST}


@pytest.fixture(scope="session")
def pdf_bytes(view: ReportView, attachments: dict[str, bytes]) -> bytes:
    """The report."""
    return render_pdf(view, attachments=attachments, created_at=CREATED)


@pytest.fixture(scope="session")
def pdf(pdf_bytes: bytes) -> Iterator[pikepdf.Pdf]:
    """The report, opened."""
    with pikepdf.open(io.BytesIO(pdf_bytes)) as opened:
        yield opened


def elements(parent: Any) -> Iterator[Any]:
    """Yield the structure elements below a parent."""
    kids = parent.get("/K")
    for kid in [] if kids is None else list(kids) if isinstance(kids, pikepdf.Array) else [kids]:
        if isinstance(kid, pikepdf.Dictionary) and "/S" in kid:
            yield kid
            yield from elements(kid)


@pytest.fixture(scope="session")
def tree(pdf: pikepdf.Pdf) -> list[Any]:
    """Every structure element."""
    return list(elements(pdf.Root.StructTreeRoot))


def pages_of(raw: bytes, folder: Path) -> list[str]:
    """Return the text of every page, its white space evened out."""
    tool = shutil.which("pdftotext")
    if tool is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    path = folder / "report.pdf"
    path.write_bytes(raw)
    done = subprocess.run([tool, "-layout", str(path), "-"], check=True, capture_output=True)
    return [" ".join(page.split()) for page in done.stdout.decode().split("\f")[:-1]]


@pytest.fixture(scope="session")
def page_texts(pdf_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The text of every page."""
    return pages_of(pdf_bytes, tmp_path_factory.mktemp("pages"))


def test_each_certificate_fills_one_page_of_its_own(page_texts: list[str], findings: Findings) -> None:
    """It starts a page, ends on it, and nothing else stands there: it can be taken out and handed on."""
    for number, result in enumerate(findings.saes, start=1):
        place = result.record.site.partition(".")[2]
        title = f"Certificate of instrument {number} (layer {place})"
        own = [text for text in page_texts if title in text and "Contents" not in text]
        assert len(own) == 1
        text = own[0]
        assert text.index(title) < 80
        assert text.index("Fidelity by kind of text") < text.index("The training") < text.index("Found again")
        assert re.search(r"rests? on this one training", text)
        assert "Findings by rung" not in text
        assert "The colours" not in text.replace("The colours that limit", "")
        pressed = text.replace(" ", "")
        assert result.record.digest.partition(":")[2][:30] in pressed


def test_cover_and_certificates_fit_one_page_of_letter_paper(
    findings: Findings, run_info: RunInfo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Which is 18 mm shorter than A4."""
    run = replace(run_info, config={**run_info.config, "report": {"page_size": "Letter"}})
    raw = render_pdf(build_view(findings, run), attachments={}, created_at=CREATED)
    texts = pages_of(raw, tmp_path_factory.mktemp("letter"))
    assert "Summary in plain language" in texts[1]
    starts = [page for page, text in enumerate(texts) if "A sheet of measurements" in text]
    ends = [page for page, text in enumerate(texts) if re.search(r"rests? on this one training", text)]
    assert len(starts) == len(findings.saes)
    assert set(starts) <= set(ends)
    with pikepdf.open(io.BytesIO(raw)) as pdf:
        assert {tuple(map(float, page.mediabox)) for page in pdf.pages} == {(0.0, 0.0, 612.0, 792.0)}


def test_every_digest_is_in_the_text(page_texts: list[str], findings: Findings) -> None:
    """Each SAE's digest can be read, in full, beside its name."""
    everything = re.sub(r"\s", "", "".join(page_texts))
    for result in findings.saes:
        assert result.record.name in everything
        assert result.record.digest in everything


def test_the_first_pages_name_the_instruments(page_texts: list[str]) -> None:
    """The cover and the summary say which SAE they speak of, and at which layer."""
    cover, summary = page_texts[:2]
    assert "Instrument 1 (SAE) smollm2-135m-instruct.resid_post.15, at layer 15" in cover
    assert "Instrument 2 (SAE) smollm2-135m-instruct.resid_post.20, at layer 20" in cover
    assert "The answers and colours are those of instrument 1 (layer 15)" in summary
    assert "No policy was applied" in summary


def test_a_missing_certificate_is_said(
    lone_view: ReportView, tmp_path_factory: pytest.TempPathFactory, findings: Findings
) -> None:
    """An SAE without a certificate has a heading, the note and no table of measurements."""
    raw = render_pdf(lone_view, attachments={}, created_at=CREATED)
    everything = " ".join(pages_of(raw, tmp_path_factory.mktemp("lone")))
    assert "has no certificate for this model. Reason given: made for another model" in everything
    assert "Fidelity by kind of text" not in everything
    assert re.search(r"Instrument \(SAE\) " + re.escape(findings.saes[0].record.name), everything)


def test_equal_input_gives_equal_bytes(view: ReportView, attachments: dict[str, bytes], pdf_bytes: bytes) -> None:
    """Two builds are byte-identical, and the order of the attachments does not matter."""
    again = render_pdf(view, attachments=dict(reversed(attachments.items())), created_at=CREATED)
    assert again == pdf_bytes


def test_the_metadata_names_both_standards(pdf: pikepdf.Pdf) -> None:
    """PDF/A-3a and PDF/UA-1 are claimed inside `rdf:RDF`, with the schema that PDF/A asks for."""
    with pdf.open_metadata() as metadata:
        assert metadata["pdfaid:part"] == "3"
        assert metadata["pdfaid:conformance"] == "A"
        assert metadata["{http://www.aiim.org/pdfua/ns/id/}part"] == "1"
        assert metadata["xmp:CreateDate"].startswith("2026-11-22T08:05:00")
    packet = pdf.Root.Metadata.read_bytes()
    assert packet.index(b"pdfaExtension:schemas") < packet.index(b"</rdf:RDF>")


def test_document_properties(pdf: pikepdf.Pdf, view: ReportView) -> None:
    """Language, title, marks, output intent, and dates without a clock."""
    assert str(pdf.Root.Lang) == "en"
    assert pdf.Root.MarkInfo.Marked
    assert pdf.Root.ViewerPreferences.DisplayDocTitle
    assert str(pdf.docinfo["/Title"]) == view.title
    assert str(pdf.docinfo["/CreationDate"]).startswith("D:20261122080500")
    assert len(pdf.Root.OutputIntents) == 1
    assert "/JavaScript" not in pdf.Root.get("/Names", {})


def test_attachments_are_the_input(pdf: pikepdf.Pdf, attachments: dict[str, bytes]) -> None:
    """Each attachment is there once, with its bytes and a relationship."""
    assert {name: pdf.attachments[name].get_file().read_bytes() for name in pdf.attachments} == attachments
    files = [file.objgen for file in pdf.Root.AF]
    assert len(files) == len(set(files)) == len(attachments)
    assert {str(file.AFRelationship) for file in pdf.Root.AF} == {"/Data", "/Supplement"}


def test_every_font_is_vendored_and_embedded(pdf: pikepdf.Pdf) -> None:
    """No font of the machine that made the report is in it, not even for a token in another script."""
    found = set()
    for page in pdf.pages:
        for font in page.Resources.Font.values():
            descriptor = font.DescendantFonts[0].FontDescriptor
            assert "/FontFile2" in descriptor or "/FontFile3" in descriptor
            assert "/ToUnicode" in font
            found.add(str(font.BaseFont).partition("+")[2])
    assert {name.partition("-")[0] for name in found} == {"Affidavit"}


def test_every_painted_thing_is_content_or_artifact(pdf: pikepdf.Pdf) -> None:
    """Nothing is drawn outside marked content, and every marked content is owned or an artifact."""
    nums = pdf.Root.StructTreeRoot.ParentTree.Nums
    parents = {int(nums[i]): nums[i + 1] for i in range(0, len(nums), 2)}
    for page in pdf.pages:
        owners = parents[int(page.StructParents)]
        depth = 0
        marks = set()
        for operands, operator in pikepdf.parse_content_stream(page):
            name = str(operator)
            if name in {"BDC", "BMC"}:
                depth += 1
                if name == "BDC" and "/MCID" in operands[1]:
                    marks.add(int(operands[1].MCID))
            elif name == "EMC":
                depth -= 1
            elif name in PAINTING:
                assert depth > 0, name
        assert marks == {mcid for mcid, owner in enumerate(owners) if owner is not None}


def test_running_headers_are_in_no_tree(pdf: pikepdf.Pdf, tree: list[Any]) -> None:
    """The parent tree names only elements that a reader can reach from the root."""
    known = {element.objgen for element in tree}
    nums = pdf.Root.StructTreeRoot.ParentTree.Nums
    for index in range(1, len(nums), 2):
        owners = nums[index]
        for owner in owners if isinstance(owners, pikepdf.Array) else [owners]:
            assert owner is None or owner.objgen in known


def test_tables_lists_and_figures_are_tagged(pdf: pikepdf.Pdf, tree: list[Any]) -> None:
    """Header cells have scopes and identifiers, lists hold items only, figures have text and a box on the page."""
    roles = Counter(str(element.S) for element in tree)
    assert {"/H1", "/H2", "/H3", "/H4", "/H5", "/H6", "/Table", "/TH", "/L", "/LI", "/Lbl", "/LBody"} <= set(roles)
    assert roles["/Figure"] == 3 + 2 + 2 + 6 + 3
    listed = {bytes(name) for name in list(pdf.Root.StructTreeRoot.IDTree.Names)[::2]}
    for element in tree:
        role = str(element.S)
        if role == "/TH":
            assert str(element.A.Scope) in {"/Column", "/Row"}
            assert bytes(element.ID) in listed
        elif role == "/TD":
            assert {bytes(header) for header in element.A.get("/Headers", [])} <= listed
        elif role == "/L":
            assert {str(kid.S) for kid in element.K} <= {"/LI", "/L", "/Caption"}
        elif role == "/Figure":
            assert str(element.Alt)
            left, bottom, right, top = (float(value) for value in element.A.BBox)
            assert 0 <= left < right <= float(element.Pg.MediaBox[2])
            assert 0 <= bottom < top <= float(element.Pg.MediaBox[3])


def test_bookmarks_follow_the_chapters(pdf: pikepdf.Pdf) -> None:
    """A reader can reach every chapter and concept from the outline."""
    with pdf.open_outline() as outline:
        top = [item.title for item in outline.root]
        assert "Findings" in top
        findings = next(item for item in outline.root if item.title == "Findings")
        assert [child.title for child in findings.children] == ["Healthcare", "Finance", "Defense"]


def test_links_have_a_description(pdf: pikepdf.Pdf) -> None:
    """PDF/UA asks each link annotation for contents."""
    links = [note for page in pdf.pages for note in page.get("/Annots", [])]
    assert links
    assert all(str(note.Contents) and "/StructParent" in note for note in links)


def test_hostile_text_loads_nothing(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """Markup in a title stays text: a request would raise, because the fetcher serves own assets only."""
    concept = replace(findings.concepts[2], title=HOSTILE, definition=HOSTILE)
    raw = render_pdf(view_of(replace(findings, concepts=(concept,))), attachments={}, created_at=CREATED)
    assert raw.startswith(b"%PDF-1.7")


def test_an_empty_audit_renders(findings: Findings, view_of: Callable[[Findings], ReportView]) -> None:
    """Nothing audited still makes a document."""
    empty = replace(findings, concepts=(), cards=(), suites=(), ladder={}, not_tested=())
    assert render_pdf(view_of(empty), attachments={}, created_at=CREATED).startswith(b"%PDF-1.7")


def test_a_moment_without_zone_is_refused(view: ReportView) -> None:
    """A local time would make the file depend on the machine."""
    with pytest.raises(AffidavitError):
        render_pdf(view, attachments={}, created_at=CREATED.replace(tzinfo=None))


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Pango gets exit code 4 and the one command, not a traceback."""

    class Broken:
        """Fails as cffi does when a shared library is absent."""

        def find_spec(self, name: str, *_: object) -> None:
            """Raise for WeasyPrint, let everything else pass."""
            if name.partition(".")[0] == "weasyprint":
                raise OSError("cannot load library 'libpango-1.0-0': no such file\nmore")

    for name in [name for name in sys.modules if name.partition(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(EnvironmentProblem) as caught:
        check_pdf_libraries()
    assert caught.value.exit_code is ExitCode.ENVIRONMENT
    assert INSTALL in caught.value.hint


def test_present_libraries_pass() -> None:
    """On a machine with the libraries the check is silent."""
    check_pdf_libraries()
