"""What the report can be used for, and what not: clause by clause, with what of this audit may be cited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from audit.digests import digest_tree
from audit.frameworks.clauses import Basis, EvidenceKind, Framework, Part
from audit.frameworks.mapping import ClauseSupport, Evidence, FrameworkSupport, map_frameworks
from audit.records import Contrast, Findings
from reports.instruments import Instrument, slug
from reports.language import N_, _
from reports.numbers import count, listed, month_name, plural, visible
from reports.queries import LADDER
from reports.view import Cell, Chapter, Column, Link, Passage, Row, Table, whole
from reports.words import word

CITABLE = "citable"
HEADING = N_("What this report can be used for, and what not")
NO_EVIDENCE = N_("no evidence in this audit")
_LEAD = (
    N_(
        "The tables say under which clauses something in this report may be cited, as what, and what that leaves"
        " open. They decide nothing: no report fulfils a clause, and whether a text applies is for its reader to"
        " say. Clauses are told in this project's own words; check the original."
    ),
    N_(
        "Cited are findings on the rungs “confirmed” and “causal”, with the question that they answer, and none"
        " below. A clause that asks for findings and has none reads “no evidence in this audit”: that nothing was"
        " found is evidence of nothing. The other clauses cite what the report says of its instrument, its"
        " procedure or itself, which is no statement about the model."
    ),
)
NOTHING = N_("No concept was audited, so nothing in this report may be cited under any clause.")
BASES: dict[Basis, str] = {
    Basis.ORIGINAL: N_("compared with the original"),
    Basis.REPRINT: N_("compared with a reprint"),
    Basis.SUMMARY: N_("compared with what others write about it"),
    Basis.MEMORY: N_("from memory"),
}
PARTS: dict[Part, tuple[str, str]] = {
    Part.SUITES: (N_("suites"), "suites"),
    Part.METHOD: (N_("method"), "method"),
    Part.FIDELITY: (N_("fidelity"), "fidelity-chapter"),
    Part.CERTIFICATES: (N_("certificates"), "certificate"),
    Part.BASELINES: (N_("baselines"), "findings"),
    Part.CONTROL_INSTRUMENTS: (N_("control SAEs"), "controls"),
    Part.SHUFFLED_LABELS: (N_("shuffled labels"), "controls"),
    Part.POWER: (N_("power"), "findings"),
    Part.NOT_TESTED: (N_("what was not tested"), "not-tested"),
    Part.LIMITATIONS: (N_("limitations"), "limitations"),
    Part.REPRODUCIBILITY: (N_("reproducibility"), "reproducibility"),
    Part.DIGESTS: (N_("digests"), "digests"),
    Part.SEAL: (N_("seal"), "verification"),
}
_PLACES = {
    EvidenceKind.MIXES: (N_("findings in mixes"), "interactions"),
    EvidenceKind.INTERVENTIONS: (N_("causal effects"), "causal"),
    EvidenceKind.PAIRS: (N_("causal pairs"), "interactions"),
}


def frameworks_view(findings: Findings, frameworks: Sequence[Framework], instruments: Sequence[Instrument]) -> Chapter:
    """Return the chapter: what may be cited at all, then a table a framework that concerns the audited domains."""
    mapping = map_frameworks(findings, frameworks)
    certificate = next((i.place_id("certificate") for i in instruments if i.result.certificate is not None), "")
    return Chapter(
        id="frameworks",
        heading=_(HEADING),
        lead=(*(_(paragraph) for paragraph in _LEAD), *_left_out(mapping.left_out)),
        terms=(),
        passages=(
            *((_citable(findings, mapping.evidence, frameworks),) if findings.concepts else ()),
            *(_framework(each, certificate) for each in mapping.frameworks),
        ),
        missing="" if findings.concepts else _(NOTHING),
    )


def _left_out(frameworks: Sequence[Framework]) -> tuple[str, ...]:
    if not frameworks:
        return ()
    named = [f"{visible(each.name)} ({listed([visible(domain) for domain in each.domains])})" for each in frameworks]
    return (_("Left out, since no concept of their domains was audited: {frameworks}.", frameworks="; ".join(named)),)


def _files(frameworks: Sequence[Framework]) -> str:
    digest = digest_tree({framework.file: framework.digest for framework in frameworks})
    return _(
        "The clauses are files of the tool and no findings: another version may word them differently over the same"
        " findings. Digest of the {number} files that were read: {digest}",
        number=count(len(frameworks)),
        digest=digest,
    )


def _citable(findings: Findings, evidence: Sequence[Evidence], frameworks: Sequence[Framework]) -> Passage:
    domains = list(dict.fromkeys(concept.domain for concept in findings.concepts))
    of_mixes = sum(each.kind is EvidenceKind.MIXES for each in evidence)
    of_pairs = sum(each.kind is EvidenceKind.PAIRS for each in evidence)
    return Passage(
        "citable-passage",
        _("What may be cited from this audit"),
        tables=(
            whole(
                Table(
                    id=CITABLE,
                    query=LADDER,
                    caption=_("Findings on the rungs “confirmed” and “causal”, by domain"),
                    columns=(
                        Column(_("Domain")),
                        *(
                            Column(_("On the {contrast}", contrast=word(contrast)), numeric=True)
                            for contrast in Contrast
                        ),
                        Column(_("Causal effects"), numeric=True),
                        Column(_("Concepts"), detail=_("with the number of findings on single features")),
                    ),
                    rows=tuple(_domain_row(domain, findings, evidence) for domain in domains),
                    note=_(
                        "A finding is one feature on one question of one concept, through one instrument. In mixes"
                        " of two concepts, {findings} on single features and {pairs} on pairs may be cited."
                        " {files}",
                        findings=plural(of_mixes, "{count} finding", "{count} findings"),
                        pairs=count(of_pairs),
                        files=_files(frameworks),
                    ),
                    layout="dense",
                )
            ),
        ),
    )


def _domain_row(domain: str, findings: Findings, evidence: Sequence[Evidence]) -> Row:
    own = [each for each in evidence if each.domains == {domain}]
    features = [each for each in own if each.kind is EvidenceKind.FEATURES]
    by_concept = Counter(each.concepts[0] for each in features)
    links = tuple(
        Link(f"{visible(concept.title)} {count(by_concept[concept.id])}", f"concept-{slug(concept.id)}")
        for concept in findings.concepts
        if by_concept[concept.id]
    )
    return Row(
        (
            Cell(visible(domain).capitalize(), href=f"domain-{slug(domain)}"),
            *(Cell(count(sum(each.contrast is contrast for each in features))) for contrast in Contrast),
            Cell(count(sum(each.kind is EvidenceKind.INTERVENTIONS for each in own))),
            Cell("" if links else _("none"), links=links),
        )
    )


def _framework(support: FrameworkSupport, certificate: str) -> Passage:
    framework = support.framework
    place = f"framework-{slug(framework.id)}"
    return Passage(
        place,
        visible(framework.name),
        tables=(
            whole(
                Table(
                    id=f"{place}-table",
                    caption=f"{visible(framework.edition)}; {visible(framework.place)}",
                    columns=(
                        Column(_("Clause")),
                        Column(_("What it asks")),
                        Column(_("What here may be cited")),
                        Column(_("What that does not cover")),
                    ),
                    rows=tuple(_clause(each, certificate) for each in support.clauses),
                    note=f"{visible(framework.scope)} {_checked(framework)}",
                    layout="clauses",
                )
            ),
        ),
    )


def _checked(framework: Framework) -> str:
    parts = [
        f"{_(BASES[basis])}: {', '.join(visible(each.number) for each in framework.clauses if each.basis is basis)}"
        for basis in Basis
        if any(each.basis is basis for each in framework.clauses)
    ]
    checked = framework.checked
    return _(
        "Paraphrased and last checked on {day} {month} {year}; {clauses}.",
        day=checked.day,
        month=month_name(checked.month),
        year=checked.year,
        clauses="; ".join(parts),
    )


def _clause(support: ClauseSupport, certificate: str) -> Row:
    clause = support.clause
    cited = (
        Cell(visible(clause.use), links=(*_evidence_links(support), *_part_links(support.parts, certificate)))
        if support.supported
        else Cell(_(NO_EVIDENCE), mark="unresolved")
    )
    return Row(
        (
            Cell(visible(clause.number), detail=visible(clause.title)),
            Cell(visible(clause.asks)),
            cited,
            Cell(visible(clause.does_not_cover)),
        )
    )


def _evidence_links(support: ClauseSupport) -> tuple[Link, ...]:
    """Return the findings that are cited: those on single features by question, the others by kind."""
    links = []
    features = [each for each in support.evidence if each.kind is EvidenceKind.FEATURES]
    if features:
        domains = sorted({domain for each in features for domain in each.domains})
        numbers = Counter(each.contrast for each in features)
        asked = {c for each in support.clause.findings if each.kind is EvidenceKind.FEATURES for c in each.contrasts}
        parts = [
            _("{number} on the {contrast}", number=count(numbers[c]), contrast=word(c))
            if numbers[c]
            else _("none on the {contrast}", contrast=word(c))
            for c in Contrast
            if c in asked
        ]
        place = f"domain-{slug(domains[0])}" if len(domains) == 1 else CITABLE
        links.append(Link(_("findings: {numbers}", numbers=", ".join(parts)), place))
    for kind, (name, place) in _PLACES.items():
        if number := sum(each.kind is kind for each in support.evidence):
            links.append(Link(f"{_(name)}: {count(number)}", place))
    return tuple(links)


def _part_links(parts: Sequence[Part], certificate: str) -> tuple[Link, ...]:
    return tuple(
        Link(_(PARTS[part][0]), certificate if part is Part.CERTIFICATES else PARTS[part][1]) for part in parts
    )
