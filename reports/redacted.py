"""What a redacted copy says of itself: on the cover, and in the chapter on verifying."""

from __future__ import annotations

from audit.records import RunInfo, Withheld
from reports.language import N_, _
from reports.numbers import count, listed, plural, visible
from reports.view import Step, Verification

_NAMED = 6
COPY_SEAL_NOTE = N_("They sealed the original, not this document.")


def copy_notice(withheld: Withheld) -> tuple[str, ...]:
    """Return what a reader of the cover must know of a redacted copy."""
    parts = [visible(part) for part in withheld.parts]
    shown = (
        listed(parts)
        if len(parts) <= _NAMED
        else _("{names} and {number} more", names=", ".join(parts[:_NAMED]), number=len(parts) - _NAMED)
    )
    kinds = [
        *([plural(withheld.prompts, "{count} prompt", "{count} prompts")] if withheld.prompts else []),
        *([plural(withheld.labels, "{count} label", "{count} labels")] if withheld.labels else []),
        *(
            [plural(withheld.continuations, "{count} continuation", "{count} continuations")]
            if withheld.continuations
            else []
        ),
    ]
    gone = withheld.prompts + withheld.labels + withheld.continuations
    return (
        _(
            "{number} of {texts} are withheld: {kinds}, of {parts}. A salted digest with a length, or a square for"
            " each token, stands in their places; no number was changed. This document was made again from the"
            " copy and carries no seal; its last chapter says how the copy is checked against the original one.",
            number=count(gone),
            texts=plural(withheld.texts, "{count} text", "{count} texts"),
            kinds=listed(kinds),
            parts=shown,
        ),
    )


def copy_verification_view(run: RunInfo) -> Verification:
    """Return what a stranger does to check a redacted copy; COPY is its folder."""
    return Verification(
        steps=(
            Step(
                _("Get the certificate from someone you trust"),
                _(
                    "A copy vouches for itself only. Obtain the certificate of the sealer through another channel and"
                    " compare its SHA-256 fingerprint with the one that the organisation has published. This report"
                    " names it as {fingerprint}; that line alone proves nothing.",
                    fingerprint=visible(run.seal.fingerprint),
                ),
                ("openssl x509 -in cert.pem -noout -fingerprint -sha256",),
            ),
            Step(
                _("Verify the copy"),
                _(
                    "This checks the original signature, and that every text that is shown, every digest that stands"
                    " for one and every value of findings.json and evidence.duckdb are those that were sealed. The"
                    " second command also makes both reports again and compares them, which takes the same versions of"
                    " the tool and its libraries."
                ),
                ("affidavit verify COPY --trust cert.pem", "affidavit verify COPY --trust cert.pem --recompute"),
            ),
            Step(
                _("Look at the evidence itself"),
                _(
                    "evidence.duckdb holds the measured scores. The queries that this report names select from it; any"
                    " program that reads DuckDB can run them."
                ),
                ("affidavit sql COPY 'SHOW TABLES'",),
            ),
            Step(
                _("Check the signature without this tool"),
                _(
                    "attestation.sigstore.json holds a DSSE envelope. OpenSSL verifies its signature over the"
                    " pre-authentication encoding “DSSEv1 <length of type> <type> <length of payload> <payload>”,"
                    " written to pae.bin, with the decoded signature in signature.bin. The payload lists the SHA-256"
                    " of every file of the original, and what the documentation of the bundle says is signed of its"
                    " texts."
                ),
                (
                    "openssl x509 -in cert.pem -pubkey -noout > key.pem",
                    "openssl dgst -sha256 -verify key.pem -signature signature.bin pae.bin",
                ),
            ),
        )
    )
