"""The PDF of a difference is tagged, archivable, the same every time, and carries diff.json."""

from __future__ import annotations

import html
import io
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from audit.records import DifferenceResult
from reports.difference import build_difference_view, render_difference_pdf
from tests.differences_making import Version
from tests.reports.fixtures.basics import HOSTILE
from tests.reports.fixtures.differences import (
    CHANGED,
    LESS_FAITHFUL,
    NOISE,
    PERMUTED,
    data_of,
    difference,
    many,
    run_of,
    with_texts,
)
from tests.reports.fixtures.strange import KINDS, LONG_TOKEN, STYLE, TEMPLATE, UNBROKEN
from tests.reports.test_pdf import PAINTING, elements, pages_of
from tests.reports.test_strange_text import HEADINGS, HIDING, SIZES, Printed, in_order, outside_text_area

CREATED = datetime(2026, 11, 22, 8, 5, tzinfo=UTC)
MANIFEST = b'{"manifest":true}'


def rendered(result: DifferenceResult, *, page_size: str = "A4") -> bytes:
    """Return the PDF of a result."""
    run = run_of(result, page_size=page_size)
    attachments = {"manifest.json": MANIFEST, "diff.json": data_of(result)}
    return render_difference_pdf(result, run, attachments=attachments, created_at=CREATED)


@pytest.fixture(scope="module")
def result() -> DifferenceResult:
    """A difference with changed rows and a noise floor."""
    return difference(CHANGED, noise=NOISE)


@pytest.fixture(scope="module")
def raw(result: DifferenceResult) -> bytes:
    """Its report."""
    return rendered(result)


@pytest.fixture(scope="module")
def pdf(raw: bytes) -> Iterator[pikepdf.Pdf]:
    """The report, opened."""
    with pikepdf.open(io.BytesIO(raw)) as opened:
        yield opened


@pytest.fixture(scope="module")
def tree(pdf: pikepdf.Pdf) -> list[Any]:
    """Every structure element."""
    return list(elements(pdf.Root.StructTreeRoot))


def test_equal_input_gives_equal_bytes(result: DifferenceResult, raw: bytes) -> None:
    """Two builds are byte-identical."""
    assert rendered(result) == raw


def test_the_record_is_attached_with_its_relationship(pdf: pikepdf.Pdf, result: DifferenceResult) -> None:
    """diff.json is the data of the document, the manifest a supplement; each is there once with its bytes."""
    found = {name: pdf.attachments[name].get_file().read_bytes() for name in pdf.attachments}
    assert found == {"diff.json": data_of(result), "manifest.json": MANIFEST}
    assert {str(file.F): str(file.AFRelationship) for file in pdf.Root.AF} == {
        "diff.json": "/Data",
        "manifest.json": "/Supplement",
    }
    assert "difference" in str(next(file for file in pdf.Root.AF if str(file.F) == "diff.json").Desc)


def test_the_metadata_names_both_standards(pdf: pikepdf.Pdf, result: DifferenceResult) -> None:
    """PDF/A-3a and PDF/UA-1, with language, title and no clock of the machine."""
    with pdf.open_metadata() as metadata:
        assert metadata["pdfaid:part"] == "3"
        assert metadata["pdfaid:conformance"] == "A"
        assert metadata["{http://www.aiim.org/pdfua/ns/id/}part"] == "1"
        assert metadata["xmp:CreateDate"].startswith("2026-11-22T08:05:00")
    assert str(pdf.Root.Lang) == "en"
    assert pdf.Root.MarkInfo.Marked
    assert str(pdf.docinfo["/Title"]) == build_difference_view(result, run_of(result)).title
    assert "/JavaScript" not in pdf.Root.get("/Names", {})


def test_tables_lists_and_figures_are_tagged(pdf: pikepdf.Pdf, tree: list[Any]) -> None:
    """Both charts have a text alternative and a box on the page, header cells scopes, links a description."""
    roles = Counter(str(element.S) for element in tree)
    assert {"/H1", "/H2", "/H3", "/Table", "/TH", "/L", "/LI", "/Figure"} <= set(roles)
    assert (roles["/H1"], roles["/Figure"]) == (1, 2)
    figures = [str(element.Alt) for element in tree if str(element.S) == "/Figure"]
    assert [text.partition(" plot")[0] for text in figures] == ["Slope", "Volcano"]
    assert all("4 rows changed" in text for text in figures)
    for element in tree:
        if str(element.S) == "/TH":
            assert str(element.A.Scope) in {"/Column", "/Row"}
        elif str(element.S) == "/Figure":
            left, bottom, right, top = (float(value) for value in element.A.BBox)
            assert 0 <= left < right <= float(element.Pg.MediaBox[2])
            assert 0 <= bottom < top <= float(element.Pg.MediaBox[3])
    links = [note for page in pdf.pages for note in page.get("/Annots", [])]
    assert links
    assert all(str(note.Contents) and "/StructParent" in note for note in links)


def test_every_font_is_embedded_and_everything_painted_is_marked(pdf: pikepdf.Pdf) -> None:
    """No font of the machine, and nothing drawn that is neither content nor artifact."""
    for page in pdf.pages:
        for font in page.Resources.Font.values():
            descriptor = font.DescendantFonts[0].FontDescriptor
            assert "/FontFile2" in descriptor or "/FontFile3" in descriptor
            assert str(font.BaseFont).partition("+")[2].startswith("Affidavit")
        depth = 0
        for _operands, operator in pikepdf.parse_content_stream(page):
            name = str(operator)
            depth += {"BDC": 1, "BMC": 1, "EMC": -1}.get(name, 0)
            assert depth > 0 or name not in PAINTING


def test_page_one_holds_the_answer(raw: bytes, result: DifferenceResult, tmp_path: Path) -> None:
    """Both models, the sentence, whose seals, every concept with its verdict, and what is not said."""
    first = pages_of(raw, tmp_path)[0]
    for text in (
        "Of 3 concepts, 2 changed, 1 are shown to be equivalent",
        "What this does not say",
        "Acme model audit",
        "Test seal",
        "signer trusted",
        *(part.title for part in result.concepts),
        "1 of 11 rows changed",
        "every row of scores and answers",
    ):
        assert " ".join(text.split()) in first


@pytest.mark.parametrize("copies", [8])
def test_many_rows_stay_readable_on_paper(result: DifferenceResult, copies: int, tmp_path: Path) -> None:
    """24 concepts, 8 mixes and hundreds of rows take two dozen pages, and page one still lists every concept."""
    long = many(result, copies)
    raw = rendered(long)
    pages = pages_of(raw, tmp_path)
    assert 10 < len(pages) <= 26
    assert all(" ".join(part.title.split()) in pages[0] for part in long.concepts)
    assert "more rows (" in " ".join(pages)
    with pikepdf.open(io.BytesIO(raw)) as pdf:
        assert alone(pdf) == []


def test_a_page_one_of_few_concepts_is_one_page(result: DifferenceResult, tmp_path: Path) -> None:
    """Five concepts and a mix, the most that are printed with more space, fit on the shorter sheet too."""
    several = many(result, 2)
    few = replace(several, concepts=several.concepts[:5], mixes=several.mixes[:1])
    first, second, *_ = pages_of(rendered(few, page_size="Letter"), tmp_path)
    assert all(" ".join(part.title.split()) in first for part in few.concepts)
    assert "A wrong dose and" in first
    assert "Contents The answer" in second


@pytest.mark.parametrize("new", [PERMUTED, LESS_FAITHFUL, Version()], ids=["permuted", "less faithful", "same"])
def test_every_ending_can_be_printed(new: Version, tmp_path: Path) -> None:
    """Other SAEs, SAEs that cannot be compared, and nothing that changed."""
    text = " ".join(pages_of(rendered(difference(new)), tmp_path))
    assert ("Unmatched is not new: another training" in text) == (new is PERMUTED)
    assert ("No feature of this instrument was compared" in text) == (new is LESS_FAITHFUL)
    assert ("No row moved" in text) == (new is not PERMUTED)
    assert "not measured" in text


@pytest.fixture(scope="module", params=["A4", "Letter"])
def strange(
    request: pytest.FixtureRequest, result: DifferenceResult, tmp_path_factory: pytest.TempPathFactory
) -> Printed:
    """Return a report with hostile text in every place, on paper."""
    hostile = with_texts(result, (*KINDS, "x" * 5000), token=LONG_TOKEN)
    raw = rendered(hostile, page_size=request.param)
    path = tmp_path_factory.mktemp("strange") / "report.pdf"
    path.write_bytes(raw)
    told = subprocess.run(["pdftotext", "-bbox", str(path), "-"], check=True, capture_output=True)
    return Printed(request.param, raw, told.stdout.decode())


def test_hostile_text_stays_text_inside_the_margins(strange: Printed) -> None:
    """On both papers; nothing hidden reaches the page, and markup is printed as it is."""
    assert outside_text_area(strange) == []
    with pikepdf.open(io.BytesIO(strange.raw)) as pdf:
        width, height = SIZES[strange.size]
        assert {tuple(round(float(v)) for v in page.mediabox) for page in pdf.pages} == {
            (0, 0, round(width), round(height))
        }
        assert alone(pdf) == []
        assert len(pdf.pages) < 40
    text = "".join(word[4] for word in strange.words)
    assert not HIDING & set(text)
    pressed = re.sub(r"\s", "", html.unescape(text))
    for kind in (HOSTILE, TEMPLATE, STYLE, UNBROKEN):
        assert re.sub(r"\s", "", kind) in pressed


def alone(pdf: pikepdf.Pdf) -> list[tuple[str, int]]:
    """Return the headings and captions that end a page."""
    pages = {page.objgen: number for number, page in enumerate(pdf.pages, start=1)}
    read = list(in_order(pdf.Root.StructTreeRoot, pages))
    headings = [place for place, (role, _) in enumerate(read) if role in HEADINGS | {"/Caption"}]
    return [read[place] for place in headings[:-1] if read[place + 1][1] != read[place][1]]
