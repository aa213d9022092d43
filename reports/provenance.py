"""What was audited, how to run it again and how to check the seal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.digests import Json
from audit.records import Findings, PrecisionResult, RunInfo
from reports.certificates import feature_words, training_words
from reports.instruments import Instrument
from reports.numbers import count, decimal, plural, share, visible
from reports.queries import EXCLUSIONS
from reports.view import Audited, Cell, Column, Reproducibility, Row, Step, Table, Verification, whole

_FORMATS = {
    "chat": (
        "Prompts ran in the model's chat template, as it is deployed. The instrument's fidelity was measured in the"
        " same format."
    ),
    "plain": (
        "Prompts ran as plain text, without a chat template. The instrument's fidelity was measured in the same format."
    ),
}


WITHHELD = (
    "its texts are withheld: a digest of a secret salt and the text stands for each, a square for each token."
    " Activations in the evidence would let somebody with the model reconstruct them"
)


def audited_view(findings: Findings, instruments: Sequence[Instrument]) -> Audited:
    """Return the model, the instruments, the suites, the format and the excluded positions."""
    model = findings.model
    return Audited(
        model=_facts(
            "model",
            "The model",
            (
                ("Name", visible(model.name), False),
                ("Source", visible(model.source), False),
                ("Architecture", visible(model.architecture), False),
                ("Parameters", count(model.parameters), False),
                ("Layers and width", f"{count(model.layers)} layers, width {count(model.width)}", False),
                ("Arithmetic", visible(model.dtype), False),
                ("Chat template", "yes" if model.chat_template else "no", False),
                ("Digest", visible(model.digest), True),
            ),
        ),
        saes=tuple(_instrument(instrument, dtype=model.dtype) for instrument in instruments),
        suites=whole(
            Table(
                id="suites",
                caption="The probe suites, as they were read",
                columns=(
                    Column("Suite"),
                    Column("What ran"),
                    Column("Version", numeric=True),
                    Column("Concepts"),
                    Column("Scenarios", numeric=True),
                    Column("Prompts", numeric=True),
                ),
                rows=tuple(
                    Row(
                        (
                            Cell(visible(suite.title), detail=visible(suite.id)),
                            Cell("whole" if suite.subset is None else f"part “{visible(suite.subset)}”"),
                            Cell(visible(suite.version)),
                            Cell(", ".join(visible(concept) for concept in suite.concepts)),
                            Cell(count(suite.scenarios)),
                            Cell(count(suite.prompts)),
                        ),
                        note=visible(suite.digest) + (f"; {WITHHELD}" if suite.withheld else ""),
                    )
                    for suite in findings.suites
                ),
                empty="No suite was read.",
                layout="noted-code",
            )
        ),
        format=_FORMATS.get(findings.format, f"Prompt format: {visible(findings.format)}."),
        exclusions=_exclusions(instruments),
    )


def reproducibility_view(findings: Findings, run: RunInfo, instruments: Sequence[Instrument]) -> Reproducibility:
    """Return the command, the configuration, the versions and the digests."""
    return Reproducibility(
        command=visible(run.command),
        config=whole(
            Table(
                id="config",
                caption="Configuration: every key that decides the result",
                columns=(Column("Key"), Column("Value")),
                rows=tuple(
                    Row((Cell(visible(key), code=True), Cell(visible(value), code=True)))
                    for key, value in _flat(run.config)
                ),
                empty="No configuration was recorded.",
                layout="keys",
            )
        ),
        environment=whole(
            Table(
                id="environment",
                caption="Environment in which the audit ran",
                columns=(Column("Component"), Column("Version or value")),
                rows=tuple(
                    Row((Cell(visible(key)), Cell(visible(value), code=True)))
                    for key, value in sorted(run.environment.items())
                ),
                empty="No environment was recorded.",
                layout="keys",
            )
        ),
        digests=_facts(
            "digests",
            "Digests (SHA-256)",
            (
                ("findings.json", visible(run.findings_digest), True),
                ("Model", visible(findings.model.digest), True),
                *(_digest_fact(instrument) for instrument in instruments),
                *((f"Suite {visible(suite.id)}", visible(suite.digest), True) for suite in findings.suites),
            ),
        ),
    )


def verification_view(run: RunInfo) -> Verification:
    """Return what a stranger does to check this report, the project's own tool first, then tools of others."""
    bundle = visible(run.bundle_name)
    return Verification(
        steps=(
            Step(
                "Get the certificate from someone you trust",
                "A bundle vouches for itself only. Obtain the certificate through another channel than the report, and"
                " compare its SHA-256 fingerprint with the one that the organisation has published. This report names"
                f" it as {visible(run.seal.fingerprint)}; that line alone proves nothing.",
                ("openssl x509 -in cert.pem -noout -fingerprint -sha256",),
            ),
            Step(
                "Verify the whole bundle",
                "Each of these gets a line of its own: files intact, signature, signer trusted, timestamp, PDF"
                " signature and coverage, and that this document carries the same findings as findings.json. Without"
                " --trust the answer is “intact, signer not trusted”.",
                (f"affidavit verify {bundle} --trust cert.pem",),
            ),
            Step(
                "Compute every figure again",
                "Both reports are printed again from the findings, and the findings are computed again from the rows"
                " of the evidence, without the model: a number that was edited and sealed again by the same key is"
                " caught.",
                (f"affidavit verify {bundle} --trust cert.pem --recompute",),
            ),
            Step(
                "Look at the evidence itself",
                "evidence.duckdb in the bundle holds the measured scores. The queries that this report names select"
                " from it; any program that reads DuckDB can run them.",
                (f"affidavit sql {bundle} 'SHOW TABLES'",),
            ),
            Step(
                "Check the PDF without this tool",
                "pdfsig comes with poppler. Look for a valid signature and for “Total document signed”: a signature"
                " that does not cover the whole file proves nothing about what is outside it.",
                ("pdfsig report.pdf",),
            ),
            Step(
                "Check the bundle's signature without this tool",
                "attestation.sigstore.json holds a DSSE envelope. OpenSSL verifies its signature over the"
                " pre-authentication encoding “DSSEv1 <length of type> <type> <length of payload> <payload>”, written"
                " to pae.bin, with the decoded signature in signature.bin. The payload lists the SHA-256 of every file"
                " of the bundle.",
                (
                    "openssl x509 -in cert.pem -pubkey -noout > key.pem",
                    "openssl dgst -sha256 -verify key.pem -signature signature.bin pae.bin",
                ),
            ),
            Step(
                "Compare the digest of the findings",
                "The digest of findings.json is printed on the cover and at the head of every page.",
                ("sha256sum findings.json", "pdfdetach -saveall report.pdf"),
            ),
        )
    )


def _facts(table_id: str, caption: str, facts: tuple[tuple[str, str, bool], ...]) -> Table:
    return whole(
        Table(
            id=table_id,
            caption=caption,
            columns=(Column("Property"), Column("Value")),
            rows=tuple(Row((Cell(name), Cell(text, code=code))) for name, text, code in facts),
            layout="facts",
        )
    )


def precision_words(precision: PrecisionResult | None) -> str:
    """Return what reduced precision changed, as measured on some of the prompts in both."""
    if precision is None:
        return "reduced precision; not compared with fp32, which did not fit into memory."
    again = f"reduced precision; {plural(precision.prompts, 'prompt')} were run in fp32 as well"
    parts = [f"{again}: {share(precision.shared_firings)} of the firings are the same"]
    if precision.median_change is not None:
        parts.append(f"activations differ by {share(precision.median_change)} (median)")
    if precision.findings:
        compared = f"{plural(precision.findings, 'finding')}, {count(precision.compared)} of them active there"
        parts.append(f"of {compared}, {count(precision.same_sign)} kept the sign")
    if precision.largest_shift is not None:
        parts.append(
            f"the largest change of a finding's effect on a scenario is {decimal(precision.largest_shift)} of its"
            " standard deviation"
        )
    return "; ".join(parts) + "."


def _instrument(instrument: Instrument, *, dtype: str) -> Table:
    sae = instrument.result.record
    precision = instrument.result.precision
    return _facts(
        instrument.place_id("sae"),
        f"{'The instrument' if instrument.alone else instrument.heading}: a sparse autoencoder (SAE)",
        (
            ("Name", visible(sae.name), False),
            ("Site in the model", visible(sae.site), True),
            *(() if sae.target == sae.site else (("Answers for", visible(sae.target), True),)),
            ("Architecture", visible(sae.architecture), False),
            ("Source and format", f"{visible(sae.source)}; {visible(sae.format)}", False),
            *(("Conversion", visible(note), False) for note in sae.notes),
            *(() if dtype == "fp32" else (("Arithmetic", precision_words(precision), False),)),
            ("Features", feature_words(sae), False),
            ("Input width", count(sae.width), False),
            ("Trained on", training_words(sae), False),
            ("Licence", visible(sae.licence), False),
            ("Training data digest", visible(sae.training_data_digest or "not stated by its files"), True),
            ("Digest", visible(sae.digest), True),
        ),
    )


def _digest_fact(instrument: Instrument) -> tuple[str, str, bool]:
    name = "SAE" if instrument.alone else f"SAE {visible(instrument.sae)}"
    return name, visible(instrument.result.record.digest), True


def _exclusions(instruments: Sequence[Instrument]) -> Table:
    """Return the excluded positions, a row an instrument: what is an outlier depends on the site."""
    return whole(
        Table(
            id="exclusions",
            caption="Token positions that no statistic saw, at each instrument's site",
            columns=(
                Column("Site"),
                Column("All positions", numeric=True),
                Column("Excluded: beginning of text and chat template", numeric=True, detail="share"),
                Column("Excluded: outliers", numeric=True, detail="share"),
                Column("Outlier limit", numeric=True, detail="residual norm"),
                Column("Kept", numeric=True, detail="share"),
            ),
            rows=tuple(_exclusion_row(instrument) for instrument in instruments),
            query=EXCLUSIONS,
        )
    )


def _exclusion_row(instrument: Instrument) -> Row:
    excluded = instrument.result.exclusions
    total = excluded.tokens_total

    def counted(number: int) -> Cell:
        return Cell(count(number), detail=share(number / total if total else None))

    return Row(
        (
            Cell(visible(instrument.result.record.site), detail="" if instrument.alone else instrument.label),
            Cell(count(total)),
            counted(excluded.template_tokens),
            counted(excluded.outlier_tokens),
            Cell(decimal(excluded.outlier_limit)),
            counted(excluded.kept_tokens),
        )
    )


def _flat(config: Mapping[str, Json], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key in sorted(config):
        value = config[key]
        if isinstance(value, Mapping):
            rows.extend(_flat(value, prefix=f"{prefix}{key}."))
        else:
            rows.append((f"{prefix}{key}", _value(value)))
    return rows


def _value(value: Json) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_value(child) for child in value) or "none"
    return str(value)
