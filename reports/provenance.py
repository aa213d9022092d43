"""What was audited, how to run it again and how to check the seal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.digests import Json
from audit.records import Findings, PrecisionResult, RunInfo
from reports.certificates import feature_words, training_words
from reports.instruments import Instrument
from reports.language import N_, _, ngettext, spoken
from reports.numbers import count, decimal, plural, share, visible
from reports.queries import EXCLUSIONS
from reports.view import Audited, Cell, Column, Reproducibility, Row, Step, Table, Verification, whole

_FORMATS = {
    "chat": N_(
        "Prompts ran in the model's chat template, as it is deployed. The instrument's fidelity was measured in the"
        " same format."
    ),
    "plain": N_(
        "Prompts ran as plain text, without a chat template. The instrument's fidelity was measured in the same format."
    ),
}


WITHHELD = N_(
    "its texts are withheld: a digest of a secret salt and the text stands for each, a square for each token."
    " Activations in the evidence would let somebody with the model reconstruct them"
)


def audited_view(findings: Findings, instruments: Sequence[Instrument]) -> Audited:
    """Return the model, the instruments, the suites, the format and the excluded positions."""
    model = findings.model
    return Audited(
        model=_facts(
            "model",
            _("The model"),
            (
                (_("Name"), visible(model.name), False),
                (_("Source"), visible(model.source), False),
                (_("Architecture"), visible(model.architecture), False),
                (_("Parameters"), count(model.parameters), False),
                (
                    _("Layers and width"),
                    _("{layers} layers, width {width}", layers=count(model.layers), width=count(model.width)),
                    False,
                ),
                (_("Arithmetic"), visible(model.dtype), False),
                (_("Chat template"), _("yes") if model.chat_template else _("no"), False),
                (_("Digest"), visible(model.digest), True),
            ),
        ),
        saes=tuple(_instrument(instrument, dtype=model.dtype) for instrument in instruments),
        suites=whole(
            Table(
                id="suites",
                caption=_("The probe suites, as they were read"),
                columns=(
                    Column(_("Suite")),
                    Column(_("What ran")),
                    Column(_("Version"), numeric=True),
                    Column(_("Concepts")),
                    Column(_("Scenarios"), numeric=True),
                    Column(_("Prompts"), numeric=True),
                ),
                rows=tuple(
                    Row(
                        (
                            Cell(visible(suite.title), detail=visible(suite.id)),
                            Cell(
                                _("whole")
                                if suite.subset is None
                                else _("part “{subset}”", subset=visible(suite.subset))
                            ),
                            Cell(visible(suite.version)),
                            Cell(", ".join(visible(concept) for concept in suite.concepts)),
                            Cell(count(suite.scenarios)),
                            Cell(count(suite.prompts)),
                        ),
                        note=visible(suite.digest) + (f"; {_(WITHHELD)}" if suite.withheld else ""),
                    )
                    for suite in findings.suites
                ),
                empty=_("No suite was read."),
                layout="noted-code",
            )
        ),
        format=_(_FORMATS[findings.format])
        if findings.format in _FORMATS
        else _("Prompt format: {format}.", format=visible(findings.format)),
        exclusions=_exclusions(instruments),
    )


def reproducibility_view(findings: Findings, run: RunInfo, instruments: Sequence[Instrument]) -> Reproducibility:
    """Return the command, the configuration, the versions and the digests."""
    return Reproducibility(
        untranslated=_untranslated(),
        command=visible(run.command),
        config=whole(
            Table(
                id="config",
                caption=_("Configuration: every key that decides the result"),
                columns=(Column(_("Key")), Column(_("Value"))),
                rows=tuple(
                    Row((Cell(visible(key), code=True), Cell(visible(value), code=True)))
                    for key, value in _flat(run.config)
                ),
                empty=_("No configuration was recorded."),
                layout="keys",
            )
        ),
        environment=whole(
            Table(
                id="environment",
                caption=_("Environment in which the audit ran"),
                columns=(Column(_("Component")), Column(_("Version or value"))),
                rows=tuple(
                    Row((Cell(visible(key)), Cell(visible(value), code=True)))
                    for key, value in sorted(run.environment.items())
                ),
                empty=_("No environment was recorded."),
                layout="keys",
            )
        ),
        digests=_facts(
            "digests",
            _("Digests (SHA-256)"),
            (
                ("findings.json", visible(run.findings_digest), True),
                (_("Model"), visible(findings.model.digest), True),
                *(_digest_fact(instrument) for instrument in instruments),
                *(
                    (_("Suite {suite}", suite=visible(suite.id)), visible(suite.digest), True)
                    for suite in findings.suites
                ),
            ),
        ),
    )


def _untranslated() -> str:
    """Return how many messages stand in English for lack of a translation; nothing where none does."""
    language = spoken()
    if not language.missing:
        return ""
    return ngettext(
        "{count} of the {total} messages of this report's catalogue has no translation into the language “{language}”;"
        " where it is printed, it stands in English.",
        "{count} of the {total} messages of this report's catalogue have no translation into the language “{language}”;"
        " where they are printed, they stand in English.",
        language.missing,
        count=count(language.missing),
        total=count(language.total),
        language=language.code,
    )


def verification_view(run: RunInfo) -> Verification:
    """Return what a stranger does to check this report, the project's own tool first, then tools of others."""
    bundle = visible(run.bundle_name)
    return Verification(
        steps=(
            Step(
                _("Get the certificate from someone you trust"),
                _(
                    "A bundle vouches for itself only. Obtain the certificate through another channel than the report,"
                    " and compare its SHA-256 fingerprint with the one that the organisation has published. This"
                    " report names it as {fingerprint}; that line alone proves nothing.",
                    fingerprint=visible(run.seal.fingerprint),
                ),
                ("openssl x509 -in cert.pem -noout -fingerprint -sha256",),
            ),
            Step(
                _("Verify the whole bundle"),
                _(
                    "Each of these gets a line of its own: files intact, signature, signer trusted, timestamp, PDF"
                    " signature and coverage, and that this document carries the same findings as findings.json."
                    " Without --trust the answer is “intact, signer not trusted”."
                ),
                (f"affidavit verify {bundle} --trust cert.pem",),
            ),
            Step(
                _("Compute every figure again"),
                _(
                    "Both reports are printed again from the findings, and the findings are computed again from the"
                    " rows of the evidence, without the model: a number that was edited and sealed again by the same"
                    " key is caught."
                ),
                (f"affidavit verify {bundle} --trust cert.pem --recompute",),
            ),
            Step(
                _("Look at the evidence itself"),
                _(
                    "evidence.duckdb in the bundle holds the measured scores. The queries that this report names select"
                    " from it; any program that reads DuckDB can run them."
                ),
                (f"affidavit sql {bundle} 'SHOW TABLES'",),
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
                _("Check the bundle's signature without this tool"),
                _(
                    "attestation.sigstore.json holds a DSSE envelope. OpenSSL verifies its signature over the"
                    " pre-authentication encoding “DSSEv1 <length of type> <type> <length of payload> <payload>”,"
                    " written to pae.bin, with the decoded signature in signature.bin. The payload lists the SHA-256"
                    " of every file of the bundle."
                ),
                (
                    "openssl x509 -in cert.pem -pubkey -noout > key.pem",
                    "openssl dgst -sha256 -verify key.pem -signature signature.bin pae.bin",
                ),
            ),
            Step(
                _("Compare the digest of the findings"),
                _("The digest of findings.json is printed on the cover and at the head of every page."),
                ("sha256sum findings.json", "pdfdetach -saveall report.pdf"),
            ),
        )
    )


def _facts(table_id: str, caption: str, facts: tuple[tuple[str, str, bool], ...]) -> Table:
    return whole(
        Table(
            id=table_id,
            caption=caption,
            columns=(Column(_("Property")), Column(_("Value"))),
            rows=tuple(Row((Cell(name), Cell(text, code=code))) for name, text, code in facts),
            layout="facts",
        )
    )


def precision_words(precision: PrecisionResult | None) -> str:
    """Return what reduced precision changed, as measured on some of the prompts in both."""
    if precision is None:
        return _("reduced precision; not compared with fp32, which did not fit into memory.")
    parts = [
        plural(
            precision.prompts,
            "reduced precision; {count} prompt were run in fp32 as well: {share} of the firings are the same",
            "reduced precision; {count} prompts were run in fp32 as well: {share} of the firings are the same",
            share=share(precision.shared_firings),
        )
    ]
    if precision.median_change is not None:
        parts.append(_("activations differ by {share} (median)", share=share(precision.median_change)))
    if precision.findings:
        parts.append(
            plural(
                precision.findings,
                "of {count} finding, {compared} of them active there, {same_sign} kept the sign",
                "of {count} findings, {compared} of them active there, {same_sign} kept the sign",
                compared=count(precision.compared),
                same_sign=count(precision.same_sign),
            )
        )
    if precision.largest_shift is not None:
        parts.append(
            _(
                "the largest change of a finding's effect on a scenario is {shift} of its standard deviation",
                shift=decimal(precision.largest_shift),
            )
        )
    return "; ".join(parts) + "."


def _instrument(instrument: Instrument, *, dtype: str) -> Table:
    sae = instrument.result.record
    precision = instrument.result.precision
    return _facts(
        instrument.place_id("sae"),
        _("{instrument}: a sparse autoencoder (SAE)", instrument=instrument.subject),
        (
            (_("Name"), visible(sae.name), False),
            (_("Site in the model"), visible(sae.site), True),
            *(() if sae.target == sae.site else ((_("Answers for"), visible(sae.target), True),)),
            (_("Architecture"), visible(sae.architecture), False),
            (_("Source and format"), f"{visible(sae.source)}; {visible(sae.format)}", False),
            *((_("Conversion"), visible(note), False) for note in sae.notes),
            *(() if dtype == "fp32" else ((_("Arithmetic"), precision_words(precision), False),)),
            (_("Features"), feature_words(sae), False),
            (_("Input width"), count(sae.width), False),
            (_("Trained on"), training_words(sae), False),
            (_("Licence"), visible(sae.licence), False),
            (_("Training data digest"), visible(sae.training_data_digest or _("not stated by its files")), True),
            (_("Digest"), visible(sae.digest), True),
        ),
    )


def _digest_fact(instrument: Instrument) -> tuple[str, str, bool]:
    name = _("SAE") if instrument.alone else _("SAE {sae}", sae=visible(instrument.sae))
    return name, visible(instrument.result.record.digest), True


def _exclusions(instruments: Sequence[Instrument]) -> Table:
    """Return the excluded positions, a row an instrument: what is an outlier depends on the site."""
    return whole(
        Table(
            id="exclusions",
            caption=_("Token positions that no statistic saw, at each instrument's site"),
            columns=(
                Column(_("Site")),
                Column(_("All positions"), numeric=True),
                Column(_("Excluded: beginning of text and chat template"), numeric=True, detail=_("share")),
                Column(_("Excluded: outliers"), numeric=True, detail=_("share")),
                Column(_("Outlier limit"), numeric=True, detail=_("residual norm")),
                Column(_("Kept"), numeric=True, detail=_("share")),
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
        return _("not set")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list | tuple):
        return ", ".join(_value(child) for child in value) or _("none")
    return str(value)
