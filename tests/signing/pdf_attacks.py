"""Changes behind a PDF's seal, as incremental updates: the signed bytes stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter


def update(pdf: bytes, change: Callable[[Any], None]) -> bytes:
    """Return the PDF with an incremental update appended."""
    writer = IncrementalPdfFileWriter(BytesIO(pdf))
    change(writer)
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def shadow_page(writer: Any) -> None:
    """Show other content on the signed page."""
    page = writer.root["/Pages"]["/Kids"][0]
    stream = generic.StreamObject(stream_data=b"BT ET 1 0 0 rg 0 0 500 500 re f")
    page["/Contents"] = writer.add_object(stream)
    writer.update_container(page)


def append_page(writer: Any) -> None:
    """Add a page at the end."""
    pages = writer.root["/Pages"]
    page = generic.DictionaryObject(
        {
            generic.pdf_name("/Type"): generic.pdf_name("/Page"),
            generic.pdf_name("/Parent"): writer.root.raw_get("/Pages"),
            generic.pdf_name("/MediaBox"): generic.ArrayObject([generic.NumberObject(n) for n in (0, 0, 9, 9)]),
        }
    )
    pages["/Kids"].append(writer.add_object(page))
    pages["/Count"] = generic.NumberObject(int(pages["/Count"]) + 1)
    writer.update_container(pages)
    writer.update_container(pages["/Kids"])


def change_catalog(writer: Any) -> None:
    """Make the document do something on opening."""
    writer.root["/OpenAction"] = generic.DictionaryObject(
        {
            generic.pdf_name("/S"): generic.pdf_name("/JavaScript"),
            generic.pdf_name("/JS"): generic.pdf_string("app.alert(1)"),
        }
    )
    writer.update_root()


def drop_certification(writer: Any) -> None:
    """Forget that changes are forbidden."""
    del writer.root["/Perms"]
    writer.update_root()


UPDATES = (shadow_page, append_page, change_catalog, drop_certification)
