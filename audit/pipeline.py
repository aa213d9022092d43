"""Run an audit from end to end: probes, capture, evidence, analysis, report, seal."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from audit import __version__
from audit.analysis.ladder import count_rungs
from audit.assessment import Assessment, Reader, assess, card_latents
from audit.capture.outputs import lens_is_reliable, promoted_tokens
from audit.capture.sae_sources import certificate_folder, expand_sources
from audit.capture.shards import content_digest
from audit.cards import feature_cards
from audit.certification import read_certificate, summary_of
from audit.config import AuditConfig, ExecutorKind
from audit.digests import Json, canonical_json, digest_bytes, digest_file
from audit.errors import OutputError, SuiteError, UsageError
from audit.evidence.store import ACTIVATIONS, DATABASE, Store, create_store
from audit.filling import fill_store
from audit.gathering import Gathered, Instrument, Subject, gather, load_subject
from audit.labels import read_labels
from audit.precision import compare_precision
from audit.progress import Progress
from audit.records import (
    FINDINGS_SCHEMA,
    Certificate,
    FeatureCard,
    Findings,
    InstrumentResult,
    LabelFile,
    PrecisionResult,
    RunInfo,
    SealInfo,
    SeedStability,
    as_json,
)
from audit.signing.keys import Signer
from audit.signing.pdf import sign_pdf
from audit.signing.seal import seal_bundle
from audit.workspace import open_workspace
from probes.loader import load_suites
from reports.context import build_view
from reports.html import render_html
from reports.pdf import check_pdf_libraries, render_pdf

MANIFEST_SCHEMA = "affidavit/manifest/1"
FINDINGS_FILE = "findings.json"
MANIFEST_FILE = "manifest.json"
_VERSIONED = (
    "torch",
    "transformers",
    "duckdb",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "weasyprint",
    "pyhanko",
    "jinja2",
)
_NOT_TESTED = (
    "Causal effect: no feature was suppressed or amplified, so no finding says that the model uses a feature.",
    "Interaction: what happens when a prompt mixes two sensitive concepts.",
    "Other sites: only the sites of the named SAEs were read.",
    "Other languages and longer dialogues: every prompt is one English user turn.",
)


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What to audit, where the bundle goes, who seals it, and when.

    Args:
        config: everything that decides the findings.
        out: the bundle's folder, which must not exist or be empty.
        signer: whose seal it gets.
        created_at: the moment of the run, with a time zone; an argument, never read from a clock inside.
        command: the command line as a reader may repeat it.
        tsa_url: an RFC 3161 timestamp authority for the PDF's seal, or None.
    """

    config: AuditConfig
    out: Path
    signer: Signer
    created_at: datetime
    command: str
    tsa_url: str | None = None


@dataclass(frozen=True, slots=True)
class AuditResult:
    """A sealed bundle."""

    folder: Path
    findings: Findings
    findings_digest: str
    statement_digest: str


def run_audit(request: AuditRequest, *, progress: Progress) -> AuditResult:
    """Run an audit and return its sealed bundle.

    Args:
        request: what to audit.
        progress: listener.

    Raises:
        AffidavitError: bad input, a missing library, no room: nothing is sealed, and shards that were finished stay
        for the
            next run with the same `out`.
    """
    check_pdf_libraries()
    if request.tsa_url is not None and not request.tsa_url.startswith(("http://", "https://")):
        raise UsageError(
            item="timestamp authority",
            expected="an http or https address",
            found=request.tsa_url,
            hint="Give the address at which the authority answers RFC 3161 requests.",
        )
    request.signer.require_valid_at(request.created_at)
    suites = load_suites(request.config.probes.suites, subset=request.config.probes.subset)
    if not any(suite.concepts for suite in suites):
        raise SuiteError(
            item=f"suites {', '.join(suite.id for suite in suites)}",
            expected="at least one concept",
            found="mixes only",
            hint="Name the suites that define the concepts of the mixes too, or a subset with concepts.",
        )
    with open_workspace(request.out) as workspace:
        subject = load_subject(suites, request.config, progress)
        certified = _certificates(subject, request.config)
        imported = read_labels(request.config.sae.labels, [i.sae.record for i in subject.instruments])
        gathered = gather(subject, request.config, workspace.folder, progress)
        with create_store(workspace.folder) as store:
            fill_store(store, subject, gathered)
            readers = _readers(subject, gathered)
            assessment = assess(store, suites, request.config, readers, progress=progress)
            precision = compare_precision(subject, request.config, assessment.findings, progress)
            findings = _conclude(
                store, subject, assessment, certified, precision=precision, imported=imported, config=request.config
            )
            _record(store, findings)
        progress.say("writing and sealing the report")
        digest = _publish(findings, subject, request, workspace.folder)
        statement = seal_bundle(
            workspace.folder,
            request.signer,
            predicate=_predicate(findings, digest),
            signed_at=request.created_at,
            tool_version=__version__,
        )
        workspace.publish()
    return AuditResult(request.out, findings, digest, statement.digest)


def _readers(subject: Subject, gathered: Gathered) -> tuple[Reader, ...]:
    return tuple(
        Reader(
            i.sae.record,
            i.control.sae.record.name,
            gathered.limits[i.sae.record.name],
            frozen=None if i.frozen is None else i.frozen.sae.record.name,
        )
        for i in subject.instruments
    )


def _certificates(subject: Subject, config: AuditConfig) -> tuple[tuple[Certificate | None, str], ...]:
    """Return the certificate of each instrument, or why it has none."""
    sources = expand_sources(config.sae.sources)
    return tuple(
        read_certificate(certificate_folder(source), instrument.sae.record, subject.model.record)
        for source, instrument in zip(sources, subject.instruments, strict=True)
    )


def _conclude(
    store: Store,
    subject: Subject,
    assessment: Assessment,
    certified: Sequence[tuple[Certificate | None, str]],
    *,
    precision: Mapping[str, PrecisionResult],
    imported: Mapping[str, tuple[LabelFile, ...]],
    config: AuditConfig,
) -> Findings:
    cards: list[FeatureCard] = []
    for instrument, (certificate, _) in zip(subject.instruments, certified, strict=True):
        stability = certificate.stability if certificate is not None else None
        labels = imported.get(instrument.sae.record.name, ())
        cards += _cards(store, subject, instrument, assessment, stability=stability, imported=labels, config=config)
    return Findings(
        schema=FINDINGS_SCHEMA,
        model=subject.model.record,
        saes=tuple(
            InstrumentResult(
                record=instrument.sae.record,
                fidelity=assessment.fidelity[instrument.sae.record.name],
                exclusions=assessment.exclusions[instrument.sae.record.name],
                certificate=summary_of(certificate) if certificate is not None else None,
                certificate_note=note,
                precision=precision.get(instrument.sae.record.name),
            )
            for instrument, (certificate, note) in zip(subject.instruments, certified, strict=True)
        ),
        suites=subject.suite_records,
        format=subject.prompt_format.value,
        permutation_control=assessment.permutation_control,
        concepts=assessment.concepts,
        cofiring=(),
        mixes=(),
        causal=None,
        cards=tuple(cards),
        ladder=count_rungs(assessment.findings),
        not_tested=_not_tested(subject),
    )


def _not_tested(subject: Subject) -> tuple[str, ...]:
    parts = dict.fromkeys(suite.subset for suite in subject.suites if suite.subset is not None)
    left_out = tuple(f"Other concepts of the suites: only the part “{name}” of each suite was run." for name in parts)
    return (*left_out, *_NOT_TESTED)


def _cards(
    store: Store,
    subject: Subject,
    instrument: Instrument,
    assessment: Assessment,
    *,
    stability: SeedStability | None,
    imported: Sequence[LabelFile],
    config: AuditConfig,
) -> tuple[FeatureCard, ...]:
    record = instrument.sae.record
    late = lens_is_reliable(record.target, layers=subject.model.record.layers)
    latents = card_latents(assessment, sae=record.name, per_concept=config.report.cards_per_concept)
    return feature_cards(
        store,
        assessment,
        latents,
        sae=record,
        promoted=promoted_tokens(subject.model, instrument.sae, latents) if late and latents else None,
        stability=stability,
        imported=imported,
        contexts=config.report.contexts_per_card,
    )


def _record(store: Store, findings: Findings) -> None:
    """Write the results into the evidence, so that SQL answers about them too."""
    contrasts = [(concept, contrast) for concept in findings.concepts for contrast in concept.contrasts]
    store.insert(
        "finding",
        [
            {
                "finding": f.id,
                "concept": f.concept,
                "contrast": f.contrast.value,
                "sae": f.sae,
                "latent": f.latent,
                "rung": f.rung.value,
                "d_z": f.d_z.value,
                "d_z_low": f.d_z.low,
                "d_z_high": f.d_z.high,
                "auroc": f.auroc.value,
                "p_value": f.p_value,
                "p_holm": f.p_holm,
                "p_max_t": f.p_max_t,
                "selected_by": f.selected_by,
                "n_scenarios": f.n_scenarios,
                "lexical": f.lexical.value,
            }
            for _, contrast in contrasts
            for f in contrast.findings
        ],
    )
    store.insert(
        "reading",
        [
            {
                "concept": concept.id,
                "contrast": c.contrast.value,
                "sae": c.sae,
                "reading": c.reading.value,
                "tested": c.tested,
                "selected": c.selected,
                "confirmed": c.confirmed,
                "probe_auroc": c.probe.auroc.value,
                "probe_p_holm": c.probe.p_holm,
            }
            for concept, c in contrasts
        ],
    )


def _publish(findings: Findings, subject: Subject, request: AuditRequest, folder: Path) -> str:
    """Write findings, manifest and both reports; return the findings' digest."""
    findings_json = canonical_json(as_json(findings))
    digest = digest_bytes(findings_json)
    certificate = request.signer.certificate
    run = RunInfo(
        created_at=request.created_at.isoformat(timespec="seconds"),
        tool_version=__version__,
        command=request.command,
        config=_public_config(request.config),
        environment=_environment(request.config),
        findings_digest=digest,
        bundle_name=request.out.name,
        seal=SealInfo(
            common_name=certificate.common_name,
            organisation=certificate.organisation or "",
            fingerprint=certificate.fingerprint,
            algorithm=certificate.algorithm.value,
        ),
    )
    try:
        (folder / FINDINGS_FILE).write_bytes(findings_json)
        manifest = canonical_json(_manifest(findings, subject, run, folder))
        (folder / MANIFEST_FILE).write_bytes(manifest)
        view = build_view(findings, run)
        (folder / "report.html").write_bytes(render_html(view, findings_json=findings_json))
        attachments = {FINDINGS_FILE: findings_json, MANIFEST_FILE: manifest}
        pdf = render_pdf(view, attachments=attachments, created_at=request.created_at)
        sealed = sign_pdf(
            pdf,
            request.signer,
            signed_at=request.created_at,
            reason="Seal over the evidence report of a model audit",
            tsa_url=request.tsa_url,
        )
        (folder / "report.pdf").write_bytes(sealed)
    except OSError as error:
        raise OutputError(
            item=request.out.name,
            expected="room to write the report",
            found=error.strerror or type(error).__name__,
            hint="Free space and run again; captured activations are kept.",
        ) from error
    return digest


def _manifest(findings: Findings, subject: Subject, run: RunInfo, folder: Path) -> Json:
    names = [FINDINGS_FILE, DATABASE, *(f"{ACTIVATIONS}/{path.name}" for path in (folder / ACTIVATIONS).iterdir())]
    return {
        "schema": MANIFEST_SCHEMA,
        "run": as_json(run),
        "model": as_json(findings.model),
        "saes": [as_json(instrument.sae.record) for instrument in subject.instruments],
        "controls": [as_json(control.record) for control in subject.controls],
        "suites": as_json(findings.suites),
        "format": findings.format,
        "exclusions": {sae.record.name: as_json(sae.exclusions) for sae in findings.saes},
        "ladder": as_json(findings.ladder),
        "activations_digest": content_digest(folder / ACTIVATIONS),
        "files": {name: digest_file(folder / name) for name in sorted(names)},
    }


def _predicate(findings: Findings, digest: str) -> Mapping[str, Json]:
    return {
        "findings": digest,
        "model": {"name": findings.model.name, "digest": findings.model.digest},
        "saes": [{"name": sae.record.name, "digest": sae.record.digest} for sae in findings.saes],
        "suites": {suite.id: suite.digest for suite in findings.suites},
        "ladder": as_json(findings.ladder),
    }


def _environment(config: AuditConfig) -> dict[str, str]:
    names = (*_VERSIONED, "ray") if config.capture.executor is ExecutorKind.RAY else _VERSIONED
    found = {name: version(name) for name in names}
    return found | {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}


def _public_config(config: AuditConfig) -> dict[str, Json]:
    """Return the configuration for the record, with local folders by their own name.

    A bundle is handed to strangers; the paths of the machine that made it are none of their business, and digests say
    what was used.
    """
    public = replace(
        config,
        model=replace(config.model, source=_own_name(config.model.source)),
        sae=replace(
            config.sae,
            sources=tuple(_own_name(source) for source in config.sae.sources),
            controls=tuple(_own_name(source) for source in config.sae.controls),
            labels=tuple(_own_name(name) for name in config.sae.labels),
        ),
        probes=replace(config.probes, suites=tuple(_own_name(name) for name in config.probes.suites)),
    )
    value = as_json(public)
    if not isinstance(value, Mapping):
        raise TypeError("a configuration serialises to an object")
    return dict(value)


def _own_name(source: str) -> str:
    name, mark, site = source.partition("#")
    path = Path(name).expanduser()
    if Path(source).expanduser().exists() or not path.exists():
        path, mark, site = Path(source).expanduser(), "", ""
    return f"{path.resolve().name}{mark}{site}" if path.exists() else source
