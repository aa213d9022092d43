"""Builds the display-ready view: every number formatted, every sentence made, so that templates only print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.config import PageSize, SealLevel
from audit.digests import Json
from audit.frameworks.files import shipped_frameworks
from audit.memory import rarely_collected
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
from reports.glossary import LIMITATIONS, WORDS
from reports.instruments import Instrument, instruments_of
from reports.interactions import interactions_view
from reports.interventions import interventions_view
from reports.language import N_, SOURCE, _, speaking, spoken
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
from reports.policy import policy_chapter, policy_note, policy_verdict
from reports.provenance import audited_view, reproducibility_view, verification_view
from reports.queries import LADDER
from reports.redacted import COPY_SEAL_NOTE, copy_notice, copy_verification_view
from reports.summary import colour_sentence, distinction_sentence, permutation_sentence, summary_view
from reports.trust import controls_view, fidelity_view
from reports.view import (
    Cell,
    Choice,
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
    RUNGS,
    reading_words,
    word,
)

DEFAULT_TITLE = N_("Model audit report")
# More comparisons that a baseline won are counted: a page of names is read by nobody.
NAMED_BASELINES = 12


def build_view(findings: Findings, run: RunInfo, *, withheld: Withheld | None = None) -> ReportView:
    """Return all that the report prints, in the words and places in which it prints it.

    Args:
        findings: the results.
        run: the circumstances; of a redacted copy those of the original, with the digest of the copy's findings.
        withheld: what a redacted copy withholds; None for an original.

    Raises:
        UsageError: the run chose a language that is not there.
        EnvironmentProblem: its file is damaged.
    """
    with speaking(report_language(run)), rarely_collected():
        return _view(findings, run, withheld=withheld)


def report_language(run: RunInfo) -> str:
    """Return the code of the language that the run chose; runs of versions that knew one language chose English."""
    code = _report_key(run, "language")
    return code if isinstance(code, str) else SOURCE


def _view(findings: Findings, run: RunInfo, *, withheld: Withheld | None) -> ReportView:
    instruments = instruments_of(findings)
    title = _title(run)
    model = visible(findings.model.name)
    names = names_of(findings, instruments)
    return ReportView(
        language=spoken().code,
        page_size=_page_size(run),
        title=f"{title}: {model}",
        description=_(
            "What {model} represents about {concepts}, measured through {instruments}",
            model=model,
            concepts=plural(len(findings.concepts), "{count} sensitive concept", "{count} sensitive concepts"),
            instruments=_("sparse autoencoder")
            if len(instruments) == 1
            else plural(len(instruments), "{count} sparse autoencoder", "{count} sparse autoencoders"),
        ),
        keywords=_("language model audit, sparse autoencoder, evidence report"),
        generator=f"affidavit {visible(run.tool_version)}",
        author=_organisation(run),
        created=run.created_at,
        running=_running(short_digest(visible(run.findings_digest)), copy=withheld is not None),
        cover=_cover(findings, run, title, instruments, withheld=withheld),
        summary=summary_view(findings, run, instruments),
        guide=_guide(),
        audited=audited_view(findings, instruments),
        fidelity=fidelity_view(findings, run, instruments),
        certificates=certificate_views(findings, instruments),
        domains=domain_views(findings.concepts, instruments, carded=names.carded),
        findings_lead=_findings_lead(findings, instruments),
        printed_lead=printed_lead(findings.concepts),
        folded=is_folded(findings.concepts),
        ladder=_ladder(findings),
        rungs=tuple(Choice(rung.value, word(rung)) for rung in reversed(Rung)),
        interactions=interactions_view(findings, names),
        causal=interventions_view(findings, names),
        cards=cards_view(findings.cards, findings.concepts, instruments),
        controls=controls_view(findings, instruments),
        not_tested=tuple(visible(item) for item in findings.not_tested),
        limitations=_limitations(findings, instruments),
        policy=policy_chapter(run),
        frameworks=frameworks_view(findings, shipped_frameworks(), instruments),
        method=method_view(run),
        reproducibility=reproducibility_view(findings, run, instruments),
        verification=verification_view(run) if withheld is None else copy_verification_view(run),
    )


def _running(digest: str, *, copy: bool) -> str:
    return _("redacted copy, findings {digest}", digest=digest) if copy else _("findings {digest}", digest=digest)


def _page_size(run: RunInfo) -> PageSize:
    """Return the paper; a run that names none, or one that is not known, is printed on A4."""
    size = _report_key(run, "page_size")
    return PageSize(size) if size in list(PageSize) else PageSize.A4


def _report_key(run: RunInfo, key: str) -> Json:
    report = run.config.get("report")
    return report.get(key) if isinstance(report, Mapping) else None


def _title(run: RunInfo) -> str:
    title = _report_key(run, "title")
    if not isinstance(title, str) or title in {"", DEFAULT_TITLE}:
        return _(DEFAULT_TITLE)
    return visible(title)


def _plan(run: RunInfo) -> str:
    if run.plan is None:
        return _("none was sealed before the audit")
    return _(
        "sealed {when} by {who}, by that signer's own clock; nothing in this audit differs from it",
        when=date_text(run.plan.signed_at),
        who=visible(run.plan.common_name),
    )


def _series(run: RunInfo) -> str:
    if run.previous is None:
        return _("number 1; follows no other audit")
    return _(
        "number {number}; follows {digest}",
        number=count(run.previous.sequence + 1),
        digest=short_digest(visible(run.previous.digest)),
    )


def _level_facts(run: RunInfo) -> tuple[Fact, ...]:
    """Return the seal's level where it is more than a signature, or less than what was asked for."""
    asked, made = run.config.get("seal"), run.environment.get(SEAL_LEVEL, SealLevel.B_B)
    if made != SealLevel.B_B:
        said = _("PAdES {level}, with a timestamp by another authority", level=visible(made))
        return (Fact(_("Seal level"), said),)
    if isinstance(asked, Mapping) and asked.get("level", SealLevel.B_B) != SealLevel.B_B:
        said = _(
            "PAdES B-B: sealed without the timestamp that the configuration asked for, as its authority did not answer"
        )
        return (Fact(_("Seal level"), said),)
    return ()


def _cover(
    findings: Findings, run: RunInfo, title: str, instruments: Sequence[Instrument], *, withheld: Withheld | None
) -> Cover:
    seal = run.seal
    return Cover(
        title=title,
        subtitle=_(
            "What {model} represents about {subject}, and how far that can be seen",
            model=visible(findings.model.name),
            subject=_domain_words(findings),
        ),
        gist=_gist(findings, instruments),
        facts=(
            Fact(_("Model"), visible(findings.model.name)),
            Fact(_("Model digest"), short_digest(visible(findings.model.digest)), code=True),
            *(fact for instrument in instruments for fact in _instrument_facts(instrument)),
            Fact(_("Made"), date_text(run.created_at)),
            Fact(_("Made with"), f"affidavit {visible(run.tool_version)}"),
            Fact(_("Plan"), _plan(run)),
            Fact(_("Series"), _series(run)),
            Fact(_("Bundle"), visible(run.bundle_name), code=True),
            Fact(_("Digest of findings.json"), visible(run.findings_digest), code=True),
        ),
        seal=(
            Fact(_("Sealed by"), visible(seal.common_name)),
            Fact(_("Organisation"), _organisation(run)),
            Fact(_("Algorithm"), visible(seal.algorithm)),
            Fact(_("Signing certificate, fingerprint"), visible(seal.fingerprint), code=True),
            *_level_facts(run),
        ),
        seal_note=_(
            "This is the seal of an organisation, made by a machine: not a person's signature, and not anyone's"
            " approval. The lines above are a claim until the seal is verified; the last chapter says how."
        )
        if withheld is None
        else _(COPY_SEAL_NOTE),
        redacted=() if withheld is None else copy_notice(withheld),
        verdict=policy_verdict(run),
        verdict_note=policy_note(run),
    )


def _organisation(run: RunInfo) -> str:
    return visible(run.seal.organisation) or _("not named")


def _instrument_facts(instrument: Instrument) -> tuple[Fact, Fact]:
    sae = instrument.result.record
    if instrument.alone:
        heading, digest = _("Instrument (SAE)"), _("SAE digest")
    else:
        heading = _("Instrument {number} (SAE)", number=instrument.number)
        digest = _("SAE digest, {number}", number=instrument.number)
    return (
        Fact(heading, _("{sae}, at {place}", sae=visible(sae.name), place=instrument.place)),
        Fact(digest, short_digest(visible(sae.digest)), code=True),
    )


def _gist(findings: Findings, instruments: Sequence[Instrument]) -> tuple[str, ...]:
    """Return what a reader should know who turns no page."""
    gist = [distinction_sentence(findings, instruments[0]), colour_sentence(instruments)]
    if not findings.permutation_control.passed:
        gist.append(permutation_sentence(findings.permutation_control))
    return tuple(gist)


def _domain_words(findings: Findings) -> str:
    domains = list(dict.fromkeys(visible(concept.domain) for concept in findings.concepts))
    return _("sensitive concepts in {domains}", domains=listed(domains)) if domains else _("no concept")


def _guide() -> Guide:
    return Guide(
        contrasts=tuple(Term(_(CONTRAST_NAMES[contrast]), _(CONTRAST_MEANINGS[contrast])) for contrast in Contrast),
        ladder=tuple(Term(word(rung), _(RUNGS[rung]), mark=f"rung-{rung.value}") for rung in reversed(Rung)),
        readings=tuple(_reading_term(reading) for reading in Reading),
        words=tuple(Term(_(term), _(meaning)) for term, meaning in WORDS),
    )


def _reading_term(reading: Reading) -> Term:
    words = reading_words(reading)
    return Term(
        f"{words.short} ({word(reading)})",
        _("{sentence} For the expert: {definition}", sentence=words.sentence, definition=words.definition),
        mark=words.mark,
    )


def _findings_lead(findings: Findings, instruments: Sequence[Instrument]) -> tuple[str, ...]:
    count_words = plural(sum(findings.ladder.values()), "{count} finding", "{count} findings")
    return (
        _(
            "Every effect of a feature or a probe in this chapter is from the confirmation split only: scenarios"
            " that played no part in choosing the features. What the model answers is measured on all scenarios,"
            " since nothing was chosen for it."
        ),
        (
            _(
                "There are {findings}, counted by rung below. Each names its rung, its effect with a 95% interval,"
                " its n, the reason for its rung, and the query that produced it.",
                findings=count_words,
            )
            + (
                ""
                if len(instruments) == 1
                else " "
                + _(
                    "Each instrument is tested on its own, with its own correction for the number of tests; features"
                    " of different instruments are different features, even under one number."
                )
            )
        ),
    )


def _ladder(findings: Findings) -> Table:
    return whole(
        Table(
            id="ladder",
            query=LADDER,
            caption=_("Findings by rung of the evidence ladder"),
            columns=(Column(_("Rung")), Column(_("Findings"), numeric=True), Column(_("What it takes"))),
            rows=tuple(
                Row(
                    (
                        Cell(word(rung), mark=f"rung-{rung.value}"),
                        Cell(count(findings.ladder.get(rung.value, 0))),
                        Cell(_(RUNGS[rung])),
                    )
                )
                for rung in reversed(Rung)
            ),
        )
    )


def _limitations(findings: Findings, instruments: Sequence[Instrument]) -> tuple[Term, ...]:
    return (
        *(Term(_(head), _(text)) for head, text in LIMITATIONS),
        Term(_("Baselines that beat the instrument are named."), _beaten(findings, instruments)),
    )


def _beaten(findings: Findings, instruments: Sequence[Instrument]) -> str:
    where = {i.sae: "" if i.alone else f", {i.label}" for i in instruments}
    compared = [
        (
            word(baseline.kind),
            f"{visible(concept.title)}, {word(result.contrast)}{where[result.sae]}",
            difference,
        )
        for concept in findings.concepts
        for result in concept.contrasts
        for baseline in result.baselines
        if (difference := baseline.feature_minus) is not None
    ]
    better = [one for one in compared if one[2].high is not None and one[2].high < 0]
    silent = [
        f"{visible(concept.title)}, {word(result.contrast)}{where[result.sae]}"
        for concept in findings.concepts
        for result in concept.contrasts
        if result.best_auroc is None and result.probe.separates
    ]
    text = (
        _(
            "These do better than the first SAE feature, the whole interval of the difference below zero: {baselines}.",
            baselines="; ".join(_named(better, compared)),
        )
        if better
        else _("In no comparison that was made does a baseline clearly do better than the first SAE feature.")
    )
    if not silent:
        return text
    which = (
        "; ".join(silent) if len(silent) <= NAMED_BASELINES else _("in {number} comparisons", number=count(len(silent)))
    )
    return f"{text} " + _(
        "A linear probe separates the arms where no feature could be ranked here: {which}.", which=which
    )


def _named(better: list[tuple[str, str, Estimate]], compared: list[tuple[str, str, Estimate]]) -> list[str]:
    """Return each comparison that a baseline won; of many how many each won, with its largest difference."""
    if len(better) <= NAMED_BASELINES:
        return [
            _("{kind} on {place} ({difference} AUROC)", kind=kind, place=place, difference=signed(difference.value))
            for kind, place, difference in better
        ]
    parts = []
    for kind in dict.fromkeys(kind for kind, *_rest in better):
        own = [one for one in better if one[0] == kind]
        _kind, place, largest = min(own, key=lambda one: one[2].value)
        total = sum(one[0] == kind for one in compared)
        worst = _("at most {difference} AUROC: {place}", difference=signed(largest.value), place=place)
        parts.append(
            _(
                "{kind} in {number} of {total} comparisons ({worst})",
                kind=kind,
                number=count(len(own)),
                total=count(total),
                worst=worst,
            )
        )
    return [*parts, _("which ones, the baselines' tables in the HTML report and findings.json say")]
