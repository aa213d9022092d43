"""Finishes what WeasyPrint leaves open for PDF/A-3a and PDF/UA-1.

WeasyPrint 70 marks running headers as content that hangs in no tree, writes figure boxes in CSS pixels from the top,
lists every attachment twice in `/AF`, and names PDF/A but not PDF/UA in the metadata. Each is mended here, before
signing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import pikepdf

from audit.errors import EnvironmentProblem

# pikepdf has no types here: a structure element is a dictionary of whatever the PDF holds.
Element: TypeAlias = Any

POINTS_PER_CSS_PIXEL = 0.75
# As WeasyPrint writes it; its text is in hexadecimal strings, so nothing that is printed can look like this.
_MARK = re.compile(rb"/\w+\s+<<\s*/MCID (\d+)\s*>>\s+BDC\b")
_ARTIFACT = b"/Artifact <</Type /Pagination>> BDC"
_LISTS = frozenset({"/Table", "/L", "/Figure"})
_RDF_END = b"</rdf:RDF>"
_UA_METADATA = b"""<rdf:Description xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/" rdf:about="" pdfuaid:part="1" />\
<rdf:Description xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/" \
xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#" \
rdf:about=""><pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">\
<pdfaSchema:schema>PDF/UA identification schema</pdfaSchema:schema>\
<pdfaSchema:namespaceURI>http://www.aiim.org/pdfua/ns/id/</pdfaSchema:namespaceURI>\
<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">\
<pdfaProperty:name>part</pdfaProperty:name><pdfaProperty:valueType>Integer</pdfaProperty:valueType>\
<pdfaProperty:category>internal</pdfaProperty:category>\
<pdfaProperty:description>The part of ISO 14289 to which the file was built</pdfaProperty:description>\
</rdf:li></rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>"""


def finish_pdf(raw: bytes) -> bytes:
    """Return the PDF with the gaps closed. Equal bytes in give equal bytes out."""
    with pikepdf.open(io.BytesIO(raw)) as pdf:
        _name_pdf_ua(pdf)
        _deduplicate_associated_files(pdf)
        elements = list(_elements(pdf.Root.StructTreeRoot))
        _turn_orphans_into_artifacts(pdf, elements)
        for element in elements:
            _mend(element)
        _add_id_tree(pdf, elements)
        target = io.BytesIO()
        pdf.save(target, deterministic_id=True, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    return target.getvalue()


def _name_pdf_ua(pdf: Element) -> None:
    """Put the PDF/UA identification inside `rdf:RDF`, with the schema that PDF/A demands for it."""
    packet = pdf.Root.Metadata.read_bytes()
    head, end, tail = packet.rpartition(_RDF_END)
    pdf.Root.Metadata.write(head + _UA_METADATA + end + tail)


def _deduplicate_associated_files(pdf: Element) -> None:
    seen: dict[tuple[int, int], Element] = {}
    for file in pdf.Root.get("/AF", []):
        seen.setdefault(file.objgen, file)
    if seen:
        pdf.Root.AF = pikepdf.Array(list(seen.values()))


def _elements(parent: Element) -> Iterator[Element]:
    """Yield every structure element below a parent, in reading order."""
    for kid in _kids(parent):
        if isinstance(kid, pikepdf.Dictionary) and "/S" in kid:
            yield kid
            yield from _elements(kid)


def _kids(element: Element) -> list[Element]:
    kids = element.get("/K")
    if kids is None:
        return []
    return list(kids) if isinstance(kids, pikepdf.Array) else [kids]


def _turn_orphans_into_artifacts(pdf: Element, elements: list[Element]) -> None:
    """Mark as pagination artifacts what hangs in no tree: the running headers and footers.

    A structure element outside the tree is neither content nor artifact, so a screen reader may read it on every page.
    """
    known = {element.objgen for element in elements}
    nums = pdf.Root.StructTreeRoot.ParentTree.Nums
    parents = {int(nums[i]): nums[i + 1] for i in range(0, len(nums), 2)}
    for page in pdf.pages:
        owners = parents[int(page.StructParents)]
        orphans = {mcid for mcid, owner in enumerate(owners) if owner.objgen not in known}
        if not orphans:
            continue
        page.Contents = pdf.make_stream(_without_marks(page.Contents.read_bytes(), orphans, marks=len(owners)))
        for mcid in orphans:
            owners[mcid] = None


def _without_marks(content: bytes, orphans: set[int], *, marks: int) -> bytes:
    """Return a page's content with its orphans marked as artifacts.

    Only the marks are looked for: reading the whole stream as instructions took ten times as long.

    Raises:
        EnvironmentProblem: the marks are not the ones that the page's structure lists.
    """
    found = sorted(int(number) for number in _MARK.findall(content))
    if found != list(range(marks)):
        raise EnvironmentProblem(
            item="WeasyPrint",
            expected=f"{marks} marks on the page, each written once",
            found=f"{len(found)}, of {len(set(found))} numbers",
            hint="Install the version of WeasyPrint that constraints.txt names.",
        )
    return _MARK.sub(lambda mark: _ARTIFACT if int(mark[1]) in orphans else mark[0], content)


def _mend(element: Element) -> None:
    role = str(element.S)
    if role == "/Figure":
        _box_in_points(element)
    elif role == "/TH":
        section = str(element.P.P.get("/S", ""))
        element.A.Scope = pikepdf.Name.Column if section == "/THead" else pikepdf.Name.Row
    elif role == "/Caption" and str(element.P.get("/S", "")) not in _LISTS:
        element.S = pikepdf.Name.P
    elif role == "/L":
        for entry in _kids(element):
            if str(entry.get("/S", "")) == "/Div":
                _pair(entry)


def _box_in_points(figure: Element) -> None:
    """Turn a box in CSS pixels from the top of the page into points from its bottom."""
    height = float(figure.Pg.MediaBox[3])
    left, top, right, bottom = (float(value) * POINTS_PER_CSS_PIXEL for value in figure.A.BBox)
    figure.A.BBox = pikepdf.Array([round(value, 3) for value in (left, height - bottom, right, height - top)])


def _pair(entry: Element) -> None:
    """Make one list item of a term and its description, which WeasyPrint tags as two items in a division."""
    entry.S = pikepdf.Name.LI
    for place, item in enumerate(_kids(entry)):
        item.S = pikepdf.Name.LBody if place else pikepdf.Name.Lbl
        for body in _kids(item):
            if isinstance(body, pikepdf.Dictionary) and str(body.get("/S", "")) == "/LBody":
                body.S = pikepdf.Name.NonStruct


def _add_id_tree(pdf: Element, elements: list[Element]) -> None:
    """List the cell identifiers, without which `/Headers` point nowhere."""
    named = {bytes(element.ID): element for element in elements if "/ID" in element}
    if named:
        names = [part for key in sorted(named) for part in (pikepdf.String(key), named[key])]
        pdf.Root.StructTreeRoot.IDTree = pdf.make_indirect(pikepdf.Dictionary(Names=pikepdf.Array(names)))
