"""Builds the display-ready view: every number formatted, every sentence made, so that templates only print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.config import PageSize, SealLevel
from audit.digests import Json
from audit.frameworks.files import shipped_frameworks
from audit.records import (
    SEAL_LEVEL,
    Contrast,
    Estimate,
    Findings,
    Reading,
    Rung,
    RunInfo,
    Withheld,
)
from reports.cards import cards_view
from reports.certificates import certificate_views
from reports.concepts import domain_views
from reports.features import names_of
from reports.frameworks import frameworks_view
from reports.instruments import Instrument, instruments_of
from reports.interactions import interactions_view
from reports.interventions import interventions_view
from reports.length import is_folded, printed_lead
from reports.method import method_view
from reports.numbers import (
    count,
    date_text,
    listed,
    plural,
    short_digest,
    signed,
    visible,
)
from reports.provenance import audited_view, reproducibility_view, verification_view
from reports.queries import LADDER
from reports.redacted import COPY_SEAL_NOTE, copy_notice, copy_verification_view
from reports.summary import colour_sentence, distinction_sentence, permutation_sentence, summary_view
from reports.trust import controls_view, fidelity_view
from reports.view import (
    Cell,
    Column,
    Cover,
    Fact,
    Guide,
    ReportView,
    Row,
    Table,
    Term,
    whole,
)
from reports.words import (
    CONTRAST_MEANINGS,
    CONTRAST_NAMES,
    LIMITATIONS,
    READINGS,
    RUNGS,
    WORDS,
)

LANGUAGE = "en"
NO_POLICY = "no policy applied"
DEFAULT_TITLE = "Model audit report"
# More comparisons that a baseline won are counted: a page of names is read by nobody.
NAMED_BASELINES = 12


def build_view(findings: Findings, run: RunInfo, *, withheld: Withheld | None = None) -> ReportView:
    """Return all that the report prints, in the words and places in which it prints it.

    Args:
        findings: the results.
        run: the circumstances; of a redacted copy those of the original, with the digest of the copy's findings.
        withheld: what a redacted copy withholds; None for an original.
    """
    instruments = instruments_of(findings)
    title = _title(run)
    model = visible(findings.model.name)
    names = names_of(findings, instruments)
    return ReportView(
        language=LANGUAGE,
        page_size=_page_size(run),
        title=f"{title}: {model}",
        description=(
            f"What {model} represents about {plural(len(findings.concepts), 'sensitive concept')}, measured through"
            f" {'sparse autoencoder' if len(instruments) == 1 else f'{len(instruments)} sparse autoencoders'}"
        ),
        keywords="language model audit, sparse autoencoder, evidence report",
        generator=f"affidavit {visible(run.tool_version)}",
        created=run.created_at,
        running=f"{'' if withheld is None else 'redacted copy, '}findings {short_digest(visible(run.findings_digest))}",
        cover=_cover(findings, run, title, instruments, withheld=withheld),
        summary=summary_view(findings, instruments),
        guide=_guide(),
        audited=audited_view(findings, instruments),
        fidelity=fidelity_view(findings, run, instruments),
        certificates=certificate_views(findings, instruments),
        domains=domain_views(findings.concepts, instruments, carded=names.carded),
        findings_lead=_findings_lead(findings, instruments),
        printed_lead=printed_lead(findings.concepts),
        folded=is_folded(findings.concepts),
        ladder=_ladder(findings),
        interactions=interactions_view(findings, names),
        causal=interventions_view(findings, names),
        cards=cards_view(findings.cards, findings.concepts, instruments),
        controls=controls_view(findings, instruments),
        not_tested=tuple(visible(item) for item in findings.not_tested),
        limitations=_limitations(findings, instruments),
        frameworks=frameworks_view(findings, shipped_frameworks(), instruments),
        method=method_view(run),
        reproducibility=reproducibility_view(findings, run, instruments),
        verification=verification_view(run) if withheld is None else copy_verification_view(run),
    )


def _page_size(run: RunInfo) -> PageSize:
    """Return the paper; a run that names none, or one that is not known, is printed on A4."""
    size = _report_key(run, "page_size")
    return PageSize(size) if size in list(PageSize) else PageSize.A4


def _report_key(run: RunInfo, key: str) -> Json:
    report = run.config.get("report")
    return report.get(key) if isinstance(report, Mapping) else None


def _title(run: RunInfo) -> str:
    title = _report_key(run, "title")
    return visible(title) if isinstance(title, str) and title else DEFAULT_TITLE


def _level_facts(run: RunInfo) -> tuple[Fact, ...]:
    """Return the seal's level where it is more than a signature, or less than what was asked for."""
    asked, made = run.config.get("seal"), run.environment.get(SEAL_LEVEL, SealLevel.B_B)
    if made != SealLevel.B_B:
        return (Fact("Seal level", f"PAdES {visible(made)}, with a timestamp by another authority"),)
    if isinstance(asked, Mapping) and asked.get("level", SealLevel.B_B) != SealLevel.B_B:
        return (
            Fact(
                "Seal level",
                "PAdES B-B: sealed without the timestamp that the configuration asked for, as its authority did not"
                " answer",
            ),
        )
    return ()


def _cover(
    findings: Findings, run: RunInfo, title: str, instruments: Sequence[Instrument], *, withheld: Withheld | None
) -> Cover:
    seal = run.seal
    return Cover(
        title=title,
        subtitle=(
            f"What {visible(findings.model.name)} represents about {_domain_words(findings)}, and how far that can be"
            " seen"
        ),
        gist=_gist(findings, instruments),
        facts=(
            Fact("Model", visible(findings.model.name)),
            Fact("Model digest", short_digest(visible(findings.model.digest)), code=True),
            *(fact for instrument in instruments for fact in _instrument_facts(instrument)),
            Fact("Made", date_text(run.created_at)),
            Fact("Made with", f"affidavit {visible(run.tool_version)}"),
            Fact("Bundle", visible(run.bundle_name), code=True),
            Fact("Digest of findings.json", visible(run.findings_digest), code=True),
        ),
        seal=(
            Fact("Sealed by", visible(seal.common_name)),
            Fact("Organisation", visible(seal.organisation) or "not named"),
            Fact("Algorithm", visible(seal.algorithm)),
            Fact("Signing certificate, fingerprint", visible(seal.fingerprint), code=True),
            *_level_facts(run),
        ),
        seal_note=(
            "This is the seal of an organisation, made by a machine: not a person's signature, and not anyone's"
            " approval. The lines above are a claim until the seal is verified; the last chapter says how."
        )
        if withheld is None
        else COPY_SEAL_NOTE,
        redacted=() if withheld is None else copy_notice(withheld),
        verdict=NO_POLICY,
        verdict_note=(
            "This report states what was measured. It passes no judgement on the model and grants no approval."
        ),
    )


def _instrument_facts(instrument: Instrument) -> tuple[Fact, Fact]:
    number = "" if instrument.alone else f" {instrument.number}"
    sae = instrument.result.record
    return (
        Fact(f"Instrument{number} (SAE)", f"{visible(sae.name)}, at {instrument.place}"),
        Fact(f"SAE digest{number and f',{number}'}", short_digest(visible(sae.digest)), code=True),
    )


def _gist(findings: Findings, instruments: Sequence[Instrument]) -> tuple[str, ...]:
    """Return what a reader should know who turns no page."""
    gist = [distinction_sentence(findings, instruments[0]), colour_sentence(instruments)]
    if not findings.permutation_control.passed:
        gist.append(permutation_sentence(findings.permutation_control))
    return tuple(gist)


def _domain_words(findings: Findings) -> str:
    domains = list(dict.fromkeys(visible(concept.domain) for concept in findings.concepts))
    return f"sensitive concepts in {listed(domains)}" if domains else "no concept"


def _guide() -> Guide:
    return Guide(
        contrasts=tuple(Term(CONTRAST_NAMES[contrast], CONTRAST_MEANINGS[contrast]) for contrast in Contrast),
        ladder=tuple(Term(rung.value, RUNGS[rung], mark=f"rung-{rung.value}") for rung in reversed(Rung)),
        readings=tuple(
            Term(
                f"{READINGS[reading].short} ({reading.value})",
                f"{READINGS[reading].sentence} For the expert: {READINGS[reading].definition}",
                mark=READINGS[reading].mark,
            )
            for reading in Reading
        ),
        words=tuple(Term(word, meaning) for word, meaning in WORDS),
    )


def _findings_lead(findings: Findings, instruments: Sequence[Instrument]) -> tuple[str, ...]:
    count_words = plural(sum(findings.ladder.values()), "finding")
    return (
        (
            "Every effect of a feature or a probe in this chapter is from the confirmation split only: scenarios that"
            " played no part in choosing the features. What the model answers is measured on all scenarios, since"
            " nothing was chosen for it."
        ),
        (
            f"There are {count_words}, counted by rung below. Each names its rung, its effect with a 95% interval, its"
            " n, the reason for its rung, and the query that produced it."
            + (
                ""
                if len(instruments) == 1
                else " Each instrument is tested on its own, with its own correction for the number of tests; features"
                " of different instruments are different features, even under one number."
            )
        ),
    )


def _ladder(findings: Findings) -> Table:
    return whole(
        Table(
            id="ladder",
            query=LADDER,
            caption="Findings by rung of the evidence ladder",
            columns=(Column("Rung"), Column("Findings", numeric=True), Column("What it takes")),
            rows=tuple(
                Row(
                    (
                        Cell(rung.value, mark=f"rung-{rung.value}"),
                        Cell(count(findings.ladder.get(rung.value, 0))),
                        Cell(RUNGS[rung]),
                    )
                )
                for rung in reversed(Rung)
            ),
        )
    )


def _limitations(findings: Findings, instruments: Sequence[Instrument]) -> tuple[Term, ...]:
    return (
        *(Term(head, text) for head, text in LIMITATIONS),
        Term("Baselines that beat the instrument are named.", _beaten(findings, instruments)),
    )


def _beaten(findings: Findings, instruments: Sequence[Instrument]) -> str:
    where = {i.sae: "" if i.alone else f", {i.label}" for i in instruments}
    compared = [
        (
            baseline.kind.value,
            f"{visible(concept.title)}, {CONTRAST_NAMES[result.contrast].lower()}{where[result.sae]}",
            difference,
        )
        for concept in findings.concepts
        for result in concept.contrasts
        for baseline in result.baselines
        if (difference := baseline.feature_minus) is not None
    ]
    better = [one for one in compared if one[2].high is not None and one[2].high < 0]
    silent = [
        f"{visible(concept.title)}, {CONTRAST_NAMES[result.contrast].lower()}{where[result.sae]}"
        for concept in findings.concepts
        for result in concept.contrasts
        if result.best_auroc is None and result.probe.separates
    ]
    text = (
        "These do better than the first SAE feature, the whole interval of the difference below zero:"
        f" {'; '.join(_named(better, compared))}."
        if better
        else "In no comparison that was made does a baseline clearly do better than the first SAE feature."
    )
    if not silent:
        return text
    which = "; ".join(silent) if len(silent) <= NAMED_BASELINES else f"in {count(len(silent))} comparisons"
    return f"{text} A linear probe separates the arms where no feature could be ranked here: {which}."


def _named(better: list[tuple[str, str, Estimate]], compared: list[tuple[str, str, Estimate]]) -> list[str]:
    """Return each comparison that a baseline won; of many how many each won, with its largest difference."""
    if len(better) <= NAMED_BASELINES:
        return [f"{kind} on {place} ({signed(difference.value)} AUROC)" for kind, place, difference in better]
    parts = []
    for kind in dict.fromkeys(kind for kind, *_ in better):
        own = [one for one in better if one[0] == kind]
        _, place, largest = min(own, key=lambda one: one[2].value)
        total = sum(one[0] == kind for one in compared)
        worst = f"at most {signed(largest.value)} AUROC: {place}"
        parts.append(f"{kind} in {count(len(own))} of {count(total)} comparisons ({worst})")
    return [*parts, "which ones, the baselines' tables in the HTML report and findings.json say"]
