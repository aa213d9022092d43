"""How a difference can be made again and checked: digests of both parents, code, versions, commands."""

from __future__ import annotations

import shlex

from audit.records import DifferenceResult, DiffParent, DiffRun
from reports.difference_words import REASON_MOST, RECORD, shortened
from reports.language import _
from reports.numbers import count, date_text, visible
from reports.view import Cell, Chapter, Column, Passage, Row, Step, Table, Verification, whole


def reproducibility_chapter(result: DifferenceResult, run: DiffRun) -> Chapter:
    """Return the command, the digests of everything that was compared, and the versions."""
    return Chapter(
        id="reproducibility",
        heading=_("Reproducibility"),
        lead=(
            _(
                "Equal bundles, compared by equal code with equal limits, give a {record} with an equal digest: it"
                " holds no clock and no path. It was made with affidavit {version}, by code with the digest below.",
                record=RECORD,
                version=visible(result.tool_version),
            ),
        ),
        terms=(),
        passages=(
            Passage(
                id="made",
                heading=_("How it was made"),
                tables=(
                    _codes(
                        "made-table",
                        _("The comparison"),
                        (
                            (_("Command"), run.command),
                            (_("Digest of {record}", record=RECORD), run.difference_digest),
                            (_("Code that compared"), result.code),
                            (_("Seal"), f"{run.seal.algorithm}, {run.seal.fingerprint}"),
                        ),
                    ),
                    *(
                        _parent(parent, f"parent-{number}", caption)
                        for number, (caption, parent) in enumerate(
                            (
                                (_("Base"), result.base),
                                (_("New"), result.new),
                                *(
                                    (_("Noise bundle {number}", number=n), one)
                                    for n, one in enumerate(result.noise, start=1)
                                ),
                            ),
                            start=1,
                        )
                    ),
                    _codes(
                        "environment",
                        _("Versions"),
                        tuple((visible(name), run.environment[name]) for name in sorted(run.environment)),
                    ),
                ),
            ),
        ),
    )


def _parent(parent: DiffParent, table_id: str, caption: str) -> Table:
    return _codes(
        table_id,
        caption,
        (
            (_("Model"), parent.model),
            (_("Model digest"), parent.model_digest),
            (_("Arithmetic"), parent.dtype),
            (_("Signed statement"), parent.statement),
            (_("Number in its series"), count(parent.sequence)),
            (_("Sealed"), date_text(parent.signed_at)),
            (_("Signer"), parent.signer),
            (_("Signing certificate, fingerprint"), parent.fingerprint),
            (_("Made with"), f"affidavit {parent.tool_version}"),
            (_("Code that measured"), parent.measuring_code or _("not stated by its bundle")),
        ),
    )


def _codes(table_id: str, caption: str, facts: tuple[tuple[str, str], ...]) -> Table:
    return whole(
        Table(
            id=table_id,
            caption=caption,
            columns=(Column(_("Property")), Column(_("Value"))),
            rows=tuple(Row((Cell(name), Cell(shortened(text, REASON_MOST), code=True))) for name, text in facts),
            empty=_("none recorded"),
            layout="keys",
            record=RECORD,
        )
    )


def verification_view(result: DifferenceResult, run: DiffRun) -> Verification:
    """Return what a stranger does to check this report: the project's own tool first, then tools of others."""
    folder = shlex.quote(visible(run.folder_name))
    return Verification(
        steps=(
            Step(
                _("Get the certificate from someone you trust"),
                _(
                    "A report vouches for itself only. Obtain the certificate through another channel than the report,"
                    " and compare its SHA-256 fingerprint with the one that the organisation has published. This"
                    " report names it as {fingerprint}; that line alone proves nothing.",
                    fingerprint=visible(run.seal.fingerprint),
                ),
                ("openssl x509 -in cert.pem -noout -fingerprint -sha256",),
            ),
            Step(
                _("Verify the whole folder"),
                _(
                    "Each of these gets a line of its own: files intact, signature, signer trusted, PDF signature and"
                    " coverage, and that this document carries the same record as {record}. Without --trust the answer"
                    " is “intact, signer not trusted”.",
                    record=RECORD,
                ),
                (f"affidavit verify {folder} --trust cert.pem",),
            ),
            Step(
                _("Look up a row"),
                _(
                    "Every figure of a row is in {record} under the name that is printed below the row, which stands"
                    " for NAME.",
                    record=RECORD,
                ),
                (f"jq '.rows[] | select(.id == \"NAME\")' {folder}/diff.json",),
            ),
            Step(
                _("Compare the two audits again"),
                _(
                    "Whoever has the bundles needs no model: each is verified, and their signed statements must have"
                    " the digests that this report prints, {base} and {new}. Every row is computed again and compared,"
                    " and this report is printed again; a bundle for the noise floor is one more --parent.",
                    base=visible(result.base.statement),
                    new=visible(result.new.statement),
                ),
                (f"affidavit verify {folder} --trust cert.pem --recompute --parent BASE --parent NEW",),
            ),
            Step(
                _("Check the PDF without this tool"),
                _(
                    "pdfsig comes with poppler. Look for a valid signature and for “Total document signed”: a signature"
                    " that does not cover the whole file proves nothing about what is outside it."
                ),
                ("pdfsig report.pdf",),
            ),
            Step(
                _("Check the folder's signature without this tool"),
                _(
                    "attestation.sigstore.json holds a DSSE envelope. OpenSSL verifies its signature over the"
                    " pre-authentication encoding “DSSEv1 <length of type> <type> <length of payload> <payload>”,"
                    " written to pae.bin, with the decoded signature in signature.bin. The payload lists the SHA-256"
                    " of every file of the folder."
                ),
                (
                    "openssl x509 -in cert.pem -pubkey -noout > key.pem",
                    "openssl dgst -sha256 -verify key.pem -signature signature.bin pae.bin",
                ),
            ),
            Step(
                _("Compare the digest of the record"),
                _(
                    "The digest of {record} is printed at the head of every page and under reproducibility.",
                    record=RECORD,
                ),
                ("sha256sum diff.json", "pdfdetach -saveall report.pdf"),
            ),
        )
    )
