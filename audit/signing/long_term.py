"""Level B-LT: what authorities say about a seal's certificates when it is made, kept inside the sealed PDF."""

from __future__ import annotations

from typing import Any

from audit.errors import EnvironmentProblem, KeyProblem
from audit.signing.asynchronous import run_async
from audit.signing.certificates import as_asn1
from audit.signing.chains import RevocationInfo
from audit.signing.signer import Signer
from audit.signing.timestamps import DIGEST

_TIMEOUT_S = 30


def collecting_context(signer: Signer, timestamper: Any) -> Any:  # noqa: ANN401 - pyHanko has no types here
    """Return a validation context that fetches and keeps OCSP responses and CRLs for the seal and its timestamp.

    The top of either chain stands as its own root: whom to trust, each verifier decides. A certificate that names a
    service for such answers must have one, and it must call the certificate good.

    Raises:
        KeyProblem: the seal's certificate is its own issuer, so that nobody can revoke it.
    """
    from pyhanko_certvalidator import ValidationContext  # noqa: PLC0415 - half a second
    from pyhanko_certvalidator.fetchers.requests_fetchers import RequestsFetcherBackend  # noqa: PLC0415 - same

    top = signer.root or (signer.issuers[-1] if signer.issuers else None)
    if top is None:
        raise KeyProblem(
            item=f"certificate of {signer.certificate.common_name!r}",
            expected="level B-LT: a certificate followed by those above it, whose authority answers for it",
            found="a certificate alone",
            hint="Write the authority's certificates after it in the certificate file, or seal at level B-T.",
        )
    stamped_by = _top_of_token(timestamper)
    return ValidationContext(
        trust_roots=[as_asn1(top), stamped_by],
        other_certs=[as_asn1(issuer) for issuer in signer.issuers],
        allow_fetching=True,
        revocation_mode="hard-fail",
        fetcher_backend=RequestsFetcherBackend(per_request_timeout=_TIMEOUT_S),
        weak_hash_algos=("md2", "md5", "sha1", "sha224"),
    )


def require_collected(context: Any, signer: Signer) -> None:  # noqa: ANN401
    """Pass if the context has collected an answer of an authority.

    Raises:
        KeyProblem: no certificate names a service that answers.
    """
    if not context.ocsps and not context.crls:
        raise KeyProblem(
            item=f"certificate of {signer.certificate.common_name!r}",
            expected="level B-LT: certificates that name an OCSP service or a CRL",
            found="none that does",
            hint="Ask the authority for a certificate with such an address, or seal at level B-T.",
        )


def not_vouched_for(signer: Signer, found: str) -> EnvironmentProblem:
    """Return the error for an authority that does not answer, or does not call the certificate good."""
    return EnvironmentProblem(
        item=f"certificate of {signer.certificate.common_name!r}",
        expected="level B-LT: answers of its authorities that call it good",
        found=found,
        hint="Check the network. If the certificate was revoked, seal with another key.",
    )


def revocation_in_pdf(reader: Any) -> RevocationInfo:  # noqa: ANN401
    """Return the OCSP responses and CRLs in the PDF's document security store; empty where there is none."""
    from pyhanko.sign.validation.dss import DocumentSecurityStore  # noqa: PLC0415 - half a second

    if "/DSS" not in reader.root:
        return RevocationInfo()
    store = DocumentSecurityStore.read_dss(reader)
    return RevocationInfo(
        ocsps=tuple(reference.get_object().data for reference in store.ocsps),
        crls=tuple(reference.get_object().data for reference in store.crls),
    )


def _top_of_token(timestamper: Any) -> Any:  # noqa: ANN401
    token = run_async(timestamper.async_dummy_response(DIGEST))["content"]
    certificates = [choice.chosen for choice in token["certificates"] if choice.name == "certificate"]
    issuers = {certificate.issuer.hashable for certificate in certificates}
    # Of the certificates in the token the one that none of the others issued.
    subjects = {certificate.subject.hashable for certificate in certificates}
    tops = [it for it in certificates if it.issuer.hashable not in subjects - {it.subject.hashable}]
    return next((it for it in tops if it.subject.hashable in issuers), tops[0])
