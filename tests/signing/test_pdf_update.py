"""A seal adds one revision that shows nothing; whatever else its owner puts behind the printed pages is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyhanko.pdf_utils import generic

from audit.signing.pdf import sign_pdf, verify_pdf
from audit.signing.pdf_update import update_problem
from tests.signing.bundle_making import SIGNED_AT, Keyed
from tests.signing.pdf_attacks import append_page, change_catalog, shadow_page, update


def test_a_seal_adds_nothing_that_shows(plain_pdf: bytes, sealed_pdf: bytes, rsa_keyed: Keyed) -> None:
    """Both algorithms."""
    assert update_problem(sealed_pdf, plain_pdf) is None
    other = sign_pdf(plain_pdf, rsa_keyed.signer, signed_at=SIGNED_AT, reason="r")
    assert update_problem(other, plain_pdf) is None


@pytest.mark.parametrize("change", [shadow_page, append_page, change_catalog])
def test_what_the_sealer_adds_before_the_seal_is_found(
    change: Callable[[Any], None], plain_pdf: bytes, keyed: Keyed
) -> None:
    """T: the printed bytes stay, an update paints over them, and the key's owner seals both: the seal is sound."""
    forged = sign_pdf(update(plain_pdf, change), keyed.signer, signed_at=SIGNED_AT, reason="r")
    assert forged.startswith(plain_pdf)
    assert verify_pdf(forged, keyed.signer.certificate.x509, moment=SIGNED_AT).ok
    assert "2 revisions follow the printed report" in str(update_problem(forged, plain_pdf))


def _paint(writer: Any) -> None:
    page = writer.root["/Pages"]["/Kids"][0]
    page["/Contents"] = writer.add_object(generic.StreamObject(stream_data=b"1 0 0 rg 0 0 500 500 re f"))
    writer.update_container(page)


def _note(writer: Any) -> None:
    page = writer.root["/Pages"]["/Kids"][0]
    stamp = {"/Type": "/Annot", "/Subtype": "/Stamp"}
    names = {generic.pdf_name(key): generic.pdf_name(value) for key, value in stamp.items()}
    page["/Annots"] = generic.ArrayObject([writer.add_object(generic.DictionaryObject(names))])
    writer.update_container(page)


def _open(writer: Any) -> None:
    writer.root["/OpenAction"] = generic.ArrayObject([generic.NumberObject(0), generic.pdf_name("/Fit")])
    writer.update_root()


@pytest.mark.parametrize(
    ("change", "found"), [(_paint, "changes a page"), (_note, "besides its field"), (_open, "catalog")]
)
def test_what_the_seal_s_own_revision_changes_is_found(
    change: Callable[[Any], None],
    found: str,
    plain_pdf: bytes,
    keyed: Keyed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dishonest signer changes the page in the revision that carries the signature."""
    from pyhanko.sign import signers

    prepare = signers.PdfSigner.init_signing_session

    def dishonest(self: Any, writer: Any, *arguments: Any, **options: Any) -> Any:
        change(writer)
        return prepare(self, writer, *arguments, **options)

    monkeypatch.setattr(signers.PdfSigner, "init_signing_session", dishonest)
    forged = sign_pdf(plain_pdf, keyed.signer, signed_at=SIGNED_AT, reason="r")
    assert verify_pdf(forged, keyed.signer.certificate.x509, moment=SIGNED_AT).ok
    assert found in str(update_problem(forged, plain_pdf))


def test_rubbish_behind_the_pages_is_a_problem_and_no_crash(plain_pdf: bytes) -> None:
    """Bytes that are no revision."""
    assert update_problem(plain_pdf + b"rubbish", plain_pdf) is not None
    assert update_problem(b"", plain_pdf) is not None
