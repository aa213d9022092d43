"""What a seal adds to a PDF: one revision that shows nothing. Whoever seals could add more, and seal that too."""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from typing import Any

from audit.signing.checks import printable

_CATALOG_KEYS = frozenset({"/AcroForm", "/DSS", "/Extensions", "/Perms", "/Version"})
_FORM_KEYS = frozenset({"/Fields", "/SigFlags"})
_FIELD_KEYS = frozenset({"/F", "/FT", "/P", "/Rect", "/Subtype", "/T", "/Type", "/V"})
_SECURITY_KEYS = frozenset({"/CRLs", "/Certs", "/OCSPs", "/Type"})


def update_problem(sealed: bytes, printed: bytes) -> str | None:
    """Return what the sealed PDF holds beyond the printed one and its seal, or None when that is all.

    Args:
        sealed: begins with the printed one, and passed `verify_pdf`.
        printed: the PDF before its seal.
    """
    from pyhanko.pdf_utils.misc import PdfError  # noqa: PLC0415 - half a second
    from pyhanko.pdf_utils.reader import PdfFileReader  # noqa: PLC0415 - same

    try:
        reader, before = PdfFileReader(BytesIO(sealed)), PdfFileReader(BytesIO(printed))
        return _problem(reader, before)
    except (PdfError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return f"what follows the printed report cannot be read: {printable(f'{type(error).__name__}: {error}')[:200]}"


def _problem(reader: Any, before: Any) -> str | None:  # noqa: ANN401 - pyHanko has no types here
    revisions = reader.xrefs.total_revisions - before.xrefs.total_revisions
    if revisions != 1:
        return f"{revisions} revisions follow the printed report, where the seal is one"
    changed = reader.xrefs.explicit_refs_in_revision(reader.xrefs.total_revisions - 1)
    printed = [ref for ref in changed if ref.idnum < int(before.trailer_view["/Size"]) and ref != reader.root_ref]
    if _without(reader.root, _CATALOG_KEYS) != _without(before.root, _CATALOG_KEYS):
        return "the seal's revision changes the document's catalog"
    if len(printed) != 1:
        return f"the seal's revision changes {len(printed)} printed objects, where it adds its field to one page"
    return _form_problem(reader.root) or _page_problem(
        reader.get_object(printed[0]), before.get_object(printed[0]), reader.root["/AcroForm"]["/Fields"]
    )


def _form_problem(catalog: Any) -> str | None:  # noqa: ANN401
    fields = catalog["/AcroForm"]["/Fields"]
    if set(catalog["/AcroForm"]) - _FORM_KEYS or len(fields) != 1:
        return "the seal's revision adds a form that is more than the seal's field"
    if set(fields[0]) - _FIELD_KEYS or any(float(side) for side in fields[0]["/Rect"]):
        return "the seal's field shows something on its page"
    if "/DSS" in catalog and set(catalog["/DSS"]) - _SECURITY_KEYS:
        return "the seal's revision adds something to the validation data"
    return None


def _page_problem(page: Any, printed: Any, fields: Any) -> str | None:  # noqa: ANN401
    if page.get("/Type") != "/Page" or _without(page, {"/Annots"}) != _without(printed, {"/Annots"}):
        return "the seal's revision changes a page"
    if _notes(page) != [*_notes(printed), _serial(fields.raw_get(0))]:
        return "the seal's revision puts something on a page besides its field"
    return None


def _without(record: Any, keys: Collection[str]) -> dict[str, bytes]:  # noqa: ANN401
    return {str(key): _serial(record.raw_get(key)) for key in record if key not in keys}


def _notes(page: Any) -> list[bytes]:  # noqa: ANN401
    notes = page.get("/Annots", ())
    return [_serial(notes.raw_get(place)) for place in range(len(notes))]


def _serial(value: Any) -> bytes:  # noqa: ANN401
    stream = BytesIO()
    value.write_to_stream(stream, None)
    return stream.getvalue()
