"""What a sealed PDF's bytes must look like, checked without a PDF parser's goodwill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# DER of what RFC 5652 and RFC 5754 prescribe around a signature.
_VERSION_1 = bytes.fromhex("020101")
_NULL = bytes.fromhex("0500")
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_DATA = bytes.fromhex("06092a864886f70d010701")
_SHA256 = bytes.fromhex("0609608648016503040201")
_SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
_SHA256_WITH_ECDSA = bytes.fromhex("06082a8648ce3d040302")


def coverage_problem(pdf_bytes: bytes, byte_range: list[int], contents: bytes) -> str | None:
    """Return what the signature leaves uncovered, or None when it covers every byte but its own.

    pyHanko calls a file with trailing junk sound, and poppler's pdfsig one with an appended page. Here the two ranges
    must start at byte 0, end at the last byte of the file, and leave out exactly `<hex of the signature>`.

    Args:
        pdf_bytes: the whole file.
        byte_range: the signature's /ByteRange.
        contents: the signature's /Contents, padding included.
    """
    if len(byte_range) != 4:
        return "its byte range does not have two parts"
    start, length, resume, rest = byte_range
    if start != 0 or length <= 0 or rest <= 0 or resume <= length:
        return "its byte range does not start at the first byte, or its parts overlap"
    if resume + rest != len(pdf_bytes):
        return f"{len(pdf_bytes) - resume - rest} bytes of the file lie after the signed range"
    gap = pdf_bytes[length:resume]
    if gap != b"<" + contents.hex().upper().encode() + b">":
        return "the range that it leaves out is not exactly the signature"
    return padding_problem(contents)


def padding_problem(contents: bytes) -> str | None:
    """Return why the signature's placeholder hides something after the signature, or None.

    The placeholder is not covered by the signature. After one whole DER value it may hold zeros only.
    """
    size = der_size(contents)
    if size is None or size > len(contents):
        return "its content is not one whole DER value"
    if any(contents[size:]):
        return "its placeholder holds bytes other than zero after the signature"
    return None


def cms_problem(contents: bytes, certificate_der: bytes, issuers_der: Sequence[bytes], *, is_rsa: bool) -> str | None:
    """Return how the signature object differs from the one that `sign_pdf` writes around the same signature, or None.

    CMS signs its signed attributes only. Versions, lists of algorithms and the signer's identifier lie outside, and
    parsers tolerate much there; so the object is written again from its signed parts and must come out the same. What
    stays free is the second form of an ECDSA signature and the inside of a timestamp token, which other software wrote.

    Args:
        contents: the signature's /Contents, padding included.
        certificate_der: the signer's certificate.
        issuers_der: the certificates above it.
        is_rsa: the kind of its key.
    """
    from asn1crypto import cms, x509  # noqa: PLC0415 - only where a PDF is checked

    size = der_size(contents)
    unsigned = _signer_info(cms, contents[:size])["unsigned_attrs"]
    has_unsigned = unsigned.native is not None
    if has_unsigned and [attribute["type"].native for attribute in unsigned] != ["signature_time_stamp_token"]:
        return "it carries unsigned attributes other than one timestamp"
    # Loaded anew, and written by hand: asn1crypto takes exponential time to write nested values that it has parsed.
    signer_info = _signer_info(cms, contents[:size])
    certificate = x509.Certificate.load(certificate_der)
    digest = _tlv(0x30, _SHA256, _NULL)
    again = _tlv(
        0x30,
        _VERSION_1,
        _tlv(0x30, certificate.issuer.dump(), certificate["tbs_certificate"]["serial_number"].dump()),
        digest,
        _tlv(0xA0, signer_info["signed_attrs"].contents),
        _tlv(0x30, _SHA256_WITH_RSA, _NULL) if is_rsa else _tlv(0x30, _SHA256_WITH_ECDSA),
        _tlv(0x04, signer_info["signature"].native),
        _tlv(0xA1, signer_info["unsigned_attrs"].contents) if has_unsigned else b"",
    )
    # X.690, 11.6: the members of a set stand in the order of their bytes.
    certificates = _tlv(0xA0, *sorted([certificate_der, *issuers_der]))
    signed_data = _tlv(0x30, _VERSION_1, _tlv(0x31, digest), _tlv(0x30, _DATA), certificates, _tlv(0x31, again))
    if _tlv(0x30, _SIGNED_DATA, _tlv(0xA0, signed_data)) != contents[:size]:
        return "its unsigned parts are not the ones that affidavit writes"
    return None


def _signer_info(cms: Any, der: bytes) -> Any:  # noqa: ANN401 - asn1crypto has no types
    return cms.ContentInfo.load(der, strict=True)["content"]["signer_infos"][0]


def _tlv(tag: int, *parts: bytes) -> bytes:
    """Return the DER encoding of a tag around its parts (X.690, 8.1 and 10.1)."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def der_size(data: bytes) -> int | None:
    """Return the length in bytes of the DER SEQUENCE at the start of the data, or None when there is none."""
    if len(data) < 2 or data[0] != 0x30:
        return None
    first = data[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    size = int.from_bytes(data[2 : 2 + count], "big")
    # X.690, 10.1: the shortest form only, and never the indefinite form.
    shortest = count > 0 and len(data) >= 2 + count and data[2] != 0 and size >= 0x80
    return 2 + count + size if shortest else None
