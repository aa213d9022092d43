"""Seals that an authority issued: what leads to a trusted root, and what only looks as if it did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from audit.digests import digest_file
from audit.errors import KeyProblem
from audit.signing import pdf
from audit.signing.chains import trust_problem
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.keys import load_signer
from audit.signing.pdf import verify_pdf
from audit.signing.seal import seal_bundle
from audit.signing.signer import Signer
from audit.signing.verify import VerifyResult, verify_bundle
from tests.signing.authorities import SERVER_AUTH, UNKNOWN, Issued, issue, issue_seal, three_deep
from tests.signing.bundle_making import NOT_BEFORE, SIGNED_AT, Keyed, claims, reseal, write_bundle


def sealed_by(signer: Signer, folder: Path, plain_pdf: bytes, findings_json: bytes) -> Path:
    """Write and seal a bundle."""
    write_bundle(folder, plain_pdf, findings_json, signer)
    seal_bundle(folder, signer, predicate=claims(folder), signed_at=SIGNED_AT, tool_version="0.1.0")
    return folder


def trust(folder: Path, certificate: Issued | bytes, place: Path) -> VerifyResult:
    """Verify the bundle with a certificate pinned."""
    place.write_bytes(certificate if isinstance(certificate, bytes) else certificate.pem)
    return verify_bundle(folder, trusted=place)


def test_a_seal_issued_through_intermediates_is_trusted_by_its_root(
    plain_pdf: bytes, findings_json: bytes, tmp_path: Path
) -> None:
    """By the root, by an intermediate, by itself; certificate.pem and the PDF carry the chain, and not the root."""
    seal, root = three_deep()
    signer = load_signer(*seal.write(tmp_path, root=True), at=SIGNED_AT)
    assert signer.root == root.certificate
    folder = sealed_by(signer, tmp_path / "b", plain_pdf, findings_json)
    for pin in (root.pem, seal.pem, *(it.public_bytes(Encoding.PEM) for it in seal.intermediates)):
        result = trust(folder, pin, tmp_path / "pin.pem")
        assert result.verdict == "valid", result[CheckName.SIGNER_TRUSTED].detail
    assert x509.load_pem_x509_certificates((folder / "certificate.pem").read_bytes()) == [
        seal.certificate,
        *seal.intermediates,
    ]
    chain = verify_pdf((folder / "report.pdf").read_bytes(), seal.certificate, moment=SIGNED_AT).chain
    assert chain is not None
    assert chain.issuers == seal.intermediates
    assert chain.root is None


def test_a_pkcs12_file_carries_its_chain_in_any_order(tmp_path: Path) -> None:
    """Sorted from the seal upwards, the root left out."""
    seal, root = three_deep()
    path = tmp_path / "seal.p12"
    others = [root.certificate, *reversed(seal.intermediates)]
    encryption = serialization.BestAvailableEncryption(b"pw")
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"s", seal.key, seal.certificate, others, encryption))
    path.chmod(0o600)
    signer = load_signer(path, None, "pw", at=SIGNED_AT)
    assert signer.issuers == seal.intermediates
    assert signer.root == root.certificate


def test_a_file_of_certificates_that_are_no_chain_is_refused(tmp_path: Path) -> None:
    """The wrong one first, one that belongs to nobody, one twice."""
    seal, root = three_deep()
    key, chain = seal.write(tmp_path)
    blocks = [seal.pem, *(it.public_bytes(Encoding.PEM) for it in seal.intermediates)]
    for wrong, reason in (
        ([blocks[1], blocks[0], blocks[2]], "beside or twice"),
        ([*blocks, issue("Stranger").pem], "Stranger"),
        ([*blocks, blocks[1]], "beside or twice"),
        ([issue_seal(root).pem], "another key"),
    ):
        chain.write_bytes(b"".join(wrong))
        with pytest.raises(KeyProblem, match=reason):
            load_signer(key, chain, at=SIGNED_AT)


def through(**changes: object) -> Callable[[Issued], Issued]:
    """Return how a root issues a seal through an intermediate that was made with the changes."""
    return lambda root: issue_seal(issue("Issuing CA", root, **changes))  # type: ignore[arg-type]


FAULTY: dict[str, tuple[Callable[[Issued], Issued], str]] = {
    "no CA": (through(ca=False, cert_sign=True, usages=["2.5.29.37.0"]), "not for sealing|not a CA"),
    "no CA, for documents": (
        lambda root: issue_seal(issue_seal(root, "Other seal"), "Seal by a seal"),
        "not a CA",
    ),
    "may not issue": (through(cert_sign=False), "not allowed to sign certificates"),
    "a path too long": (lambda root: issue_seal(issue("Lower", issue("Upper", root, path_length=0))), "path"),
    "expired": (through(days=10), "expired"),
    "not valid yet": (through(start=SIGNED_AT + timedelta(days=1)), "not valid until"),
    "for servers": (through(usages=[SERVER_AUTH]), "not for sealing"),
    "an unknown critical extension": (through(critical=[UNKNOWN]), "unsupported critical extension"),
    "a seal with an unknown critical extension": (
        lambda root: issue_seal(issue("CA", root), critical=[UNKNOWN]),
        "unsupported critical extension",
    ),
    "an expired seal": (lambda root: issue_seal(issue("CA", root), days=10), "expired"),
    "a seal for servers": (lambda root: issue_seal(issue("CA", root), usages=[SERVER_AUTH]), "not for sealing"),
    "a seal for nothing": (lambda root: issue_seal(issue("CA", root), usages=[]), "not for sealing"),
    "a name outside the constraints": (
        through(
            critical=[
                x509.NameConstraints(
                    permitted_subtrees=[x509.DirectoryName(x509.Name.from_rfc4514_string("O=Acme"))],
                    excluded_subtrees=None,
                )
            ]
        ),
        "permitted",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_each_rule_of_the_path_holds_by_itself(fault: str) -> None:
    """One fault in an otherwise sound chain: not trusted, with the reason. The chain without it is."""
    root = issue("Root")
    make, reason = FAULTY[fault]
    seal = make(root)
    problem = trust_problem(seal.certificate, seal.intermediates, root.certificate, moment=SIGNED_AT)
    assert problem is not None
    assert any(word in problem for word in reason.split("|")), problem
    sound = through()(root)
    assert trust_problem(sound.certificate, sound.intermediates, root.certificate, moment=SIGNED_AT) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"days": 10}, "not valid when"),
        ({"cert_sign": False}, "may not sign"),
        ({"ca": False}, "not a CA"),
        ({"critical": [UNKNOWN]}, "does not evaluate"),
        ({"path_length": 0}, "path"),
    ],
)
def test_the_pinned_root_must_be_one_itself(changes: dict[str, object], reason: str) -> None:
    """Its own dates, flags and path length count, though RFC 5280 leaves them to the verifier."""
    root = issue("Root", **changes)  # type: ignore[arg-type]
    seal = through()(root)
    problem = trust_problem(seal.certificate, seal.intermediates, root.certificate, moment=SIGNED_AT)
    assert problem is not None
    assert reason in problem


def test_a_missing_intermediate_is_a_path_that_is_not_there() -> None:
    """Nothing is fetched."""
    seal, root = three_deep()
    for issuers in ((), seal.intermediates[:1], seal.intermediates[1:]):
        assert trust_problem(seal.certificate, issuers, root.certificate, moment=SIGNED_AT) is not None


def test_the_moment_of_sealing_decides_and_not_the_clock() -> None:
    """Sound then, and neither before nor after."""
    seal, root = three_deep()
    for moment, sound in (
        (SIGNED_AT, True),
        (NOT_BEFORE - timedelta(days=1), False),
        (SIGNED_AT.replace(year=2028), False),
    ):
        problem = trust_problem(seal.certificate, seal.intermediates, root.certificate, moment=moment)
        assert (problem is None) is sound


def test_look_alikes_are_never_trusted(plain_pdf: bytes, findings_json: bytes, tmp_path: Path) -> None:
    """Same names and serial with another key, at each place of the chain; same key with other names; another root's."""
    seal, root = three_deep()
    false_root = issue("Root", serial=root.certificate.serial_number)
    false_chain = issue("Issuing CA", issue("Policy CA", false_root))
    same_names = issue_seal(false_chain, serial=seal.certificate.serial_number)
    self_signed = issue("Issued seal", ca=False, usages=["1.3.6.1.5.5.7.3.36"], serial=seal.certificate.serial_number)
    same_key = issue_seal(false_chain, "Other seal", key=seal.key)
    for number, impostor in enumerate((same_names, self_signed, same_key)):
        folder = sealed_by(impostor.signer(), tmp_path / str(number), plain_pdf, findings_json)
        for pin in (root, seal, seal.intermediates[0].public_bytes(Encoding.PEM)):
            result = trust(folder, pin, tmp_path / "pin.pem")
            assert [c.name for c in result.checks if c.status is CheckStatus.FAIL] == [CheckName.SIGNER_TRUSTED]
            assert not result.trusted
    # The genuine intermediates beside a false seal lead nowhere either.
    problem = trust_problem(same_names.certificate, seal.intermediates, root.certificate, moment=SIGNED_AT)
    assert problem is not None


@pytest.mark.parametrize("change", ["other first", "one more", "reversed", "white space"])
def test_certificate_pem_has_one_form(change: str, plain_pdf: bytes, findings_json: bytes, tmp_path: Path) -> None:
    """Signed by the signer, and still a failure: a byte in it that no certificate needs could tell readers anything."""
    seal, _ = three_deep()
    folder = sealed_by(seal.signer(), tmp_path / "b", plain_pdf, findings_json)
    pem = (folder / "certificate.pem").read_bytes()
    blocks = [seal.pem, *(it.public_bytes(Encoding.PEM) for it in seal.intermediates)]
    changed = {
        "other first": issue("Other", ca=False).pem + pem,
        "one more": pem + issue("Other").pem,
        "reversed": b"".join([blocks[0], blocks[2], blocks[1]]),
        "white space": pem + b"\n",
    }[change]
    (folder / "certificate.pem").write_bytes(changed)
    reseal(folder, Keyed(None, seal.signer()))  # type: ignore[arg-type] # the files are not needed
    result = verify_bundle(folder, trusted=None)
    assert [c.name for c in result.checks if c.status is CheckStatus.FAIL] == [CheckName.SIGNER_IDENTITY]
    assert digest_file(folder / "certificate.pem") in result.statement.subjects.values()


def test_a_seal_carries_its_chain_and_no_other_certificate(
    plain_pdf: bytes, keyed: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's certificate, or a root, beside the signature: CMS does not sign that place, so it must be empty."""
    seal, root = three_deep()
    honest = pdf._pyhanko_signer

    def dishonest(extra: x509.Certificate) -> Callable[[Signer], object]:
        def make(signer: Signer) -> object:
            made = honest(signer)
            made.cert_registry.register(pdf.as_asn1(extra))
            return made

        return make

    for extra, reason in ((keyed.signer.certificate.x509, "beside or twice"), (root.certificate, "unsigned parts")):
        with monkeypatch.context() as patch:
            patch.setattr(pdf, "_pyhanko_signer", dishonest(extra))
            sealed = pdf._seal(plain_pdf, seal.signer(), signed_at=SIGNED_AT, reason="r", location=None)
        problems = verify_pdf(sealed, seal.certificate, moment=SIGNED_AT).problems
        assert any(reason in problem for problem in problems), problems


def test_a_signature_that_is_not_the_certificate_s_never_leaves(keyed: Keyed, other_keyed: Keyed) -> None:
    """A faulty token, or a key that was exchanged: refused before anything is written."""
    mixed = Signer(keyed.signer.certificate, other_keyed.signer.key)
    with pytest.raises(KeyProblem, match="something else"):
        mixed.sign(b"message")


def test_the_keys_differ() -> None:
    """The helper makes a new key for each certificate: otherwise look-alikes would prove nothing."""
    one, other = issue("Root"), issue("Root")
    assert one.key.public_key() != other.key.public_key()
    assert isinstance(one.key, ec.EllipticCurvePrivateKey)
