"""Run an audit from end to end: probes, capture, evidence, analysis, report, seal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audit import __version__
from audit.analysis.cofiring import decoder_cosine
from audit.analysis.ladder import count_rungs
from audit.assessment import Assessment, Reader, assess, card_latents
from audit.capture.outputs import lens_is_reliable, promoted_tokens
from audit.capture.sae_sources import certificate_folder, expand_sources
from audit.cards import feature_cards
from audit.causes import Causes, find_causes, record_causes
from audit.certification import read_certificate, summary_of
from audit.config import AuditConfig, check_seal
from audit.errors import SuiteError
from audit.evidence.store import Store, create_store
from audit.filling import fill_store
from audit.frameworks.files import shipped_frameworks
from audit.gathering import Gathered, Instrument, Subject, gather, load_subject
from audit.inputs import read_inputs
from audit.labels import read_labels
from audit.limits import not_tested
from audit.memory import give_back
from audit.mixing import assess_co_firing, assess_mixes
from audit.planning import require_planned
from audit.precision import compare_precision
from audit.progress import Progress
from audit.publishing import predicate, publish
from audit.recording import record_findings
from audit.records import (
    FINDINGS_SCHEMA,
    Certificate,
    CoFiring,
    FeatureCard,
    Findings,
    GateVerdict,
    InstrumentResult,
    LabelFile,
    MixResult,
    PrecisionResult,
    SeedStability,
)
from audit.request import AuditRequest
from audit.signing.seal import seal_bundle
from audit.signing.timestamps import attainable_level
from audit.suppressions import suppress_causes
from audit.workspace import open_workspace
from probes.loader import load_suites
from reports.language import language_of
from reports.pdf import check_pdf_libraries


@dataclass(frozen=True, slots=True)
class AuditResult:
    """A sealed bundle; `policy` is the answer of the policy that its findings were put to, if any."""

    folder: Path
    findings: Findings
    findings_digest: str
    statement_digest: str
    policy: GateVerdict | None = None


def run_audit(request: AuditRequest, *, progress: Progress, clock: Callable[[], float] = time.monotonic) -> AuditResult:
    """Run an audit and return its sealed bundle.

    Args:
        request: what to audit.
        progress: listener.
        clock: monotonic seconds; it decides something only where the budget of the causal tests is one of time.

    Raises:
        AffidavitError: bad input, a missing library, no room: nothing is sealed, and shards that were finished stay
            for the next run with the same `out`.
    """
    check_pdf_libraries()
    # A broken file of the package, or a language that is not there, is found now, not when the report is made.
    shipped_frameworks()
    language_of(request.config.report.language)
    check_seal(request.config.seal, origin="audit")
    # Asked now too: an authority that is down ends the run before its work, where the configuration refuses that.
    attainable_level(request.config.seal)
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
        inputs = read_inputs(suites, request.config, progress)
        if request.plan is not None:
            require_planned(request.plan, inputs, request.config)
        subject = load_subject(inputs, request.config)
        certified = _certificates(subject, request.config)
        imported = read_labels(request.config.sae.labels, [i.sae.record for i in subject.instruments])
        gathered = gather(subject, request.config, workspace.folder, progress)
        with create_store(workspace.folder) as store:
            fill_store(store, subject, gathered)
            results = _analyse(store, subject, gathered, request.config, progress, clock=clock)
            precision = compare_precision(subject, request.config, results.assessment.findings, progress)
            findings = _conclude(
                store,
                subject,
                results,
                certified,
                precision=precision,
                imported=imported,
                config=request.config,
            )
            record_findings(store, findings)
        progress.say("writing and sealing the report")
        published = publish(findings, subject, request, workspace.folder)
        statement = seal_bundle(
            workspace.folder,
            request.signer,
            predicate=predicate(findings, published, request.plan),
            signed_at=request.created_at,
            tool_version=__version__,
            sequence=1 if request.previous is None else request.previous.sequence + 1,
            previous=None if request.previous is None else request.previous.digest,
        )
        workspace.publish()
    return AuditResult(request.out, findings, published.findings_digest, statement.digest, published.policy)


@dataclass(frozen=True, slots=True)
class _Results:
    """What every analysis found; the concepts of the assessment have the rungs that the causal tests gave them."""

    assessment: Assessment
    cofiring: tuple[CoFiring, ...]
    mixes: tuple[MixResult, ...]
    causes: Causes


def _analyse(
    store: Store,
    subject: Subject,
    gathered: Gathered,
    config: AuditConfig,
    progress: Progress,
    *,
    clock: Callable[[], float],
) -> _Results:
    readers = _readers(subject, gathered)
    assessment = assess(store, subject.suites, config, readers, progress=progress)
    give_back()
    cosines = {
        (record := i.sae.record).name: decoder_cosine(
            i.sae.w_dec.cpu().numpy(), sae=record.name, latents=record.latents
        )
        for i in subject.instruments
    }
    cofiring = assess_co_firing(store, config, readers, cosines=cosines, progress=progress)
    mixes = assess_mixes(store, subject.suites, config, readers, assessment=assessment, progress=progress)
    store.rest()
    give_back()
    causes = find_causes(subject, assessment.concepts, mixes, config, progress=progress, clock=clock)
    record_causes(store, causes.ledger)
    held = suppress_causes(store, subject, causes.concepts, config, progress)
    result = replace(causes.result, suppressions=held.found, untested=(*causes.result.untested, *held.untested))
    causes = replace(causes, result=result)
    return _Results(replace(assessment, concepts=causes.concepts), cofiring, mixes, causes)


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
    results: _Results,
    certified: Sequence[tuple[Certificate | None, str]],
    *,
    precision: Mapping[str, PrecisionResult],
    imported: Mapping[str, tuple[LabelFile, ...]],
    config: AuditConfig,
) -> Findings:
    assessment, causes = results.assessment, results.causes
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
        cofiring=results.cofiring,
        mixes=tuple(
            replace(mix, pairs=causes.pairs.get(mix.id, ()), untested=(*mix.untested, *causes.untested.get(mix.id, ())))
            for mix in results.mixes
        ),
        causal=causes.result,
        cards=tuple(cards),
        ladder=count_rungs(assessment.findings),
        not_tested=not_tested(subject.suite_records, causes.result),
    )


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
