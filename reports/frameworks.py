"""What the report can be used for, and what not: clause by clause, with what of this audit may be cited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from audit.digests import digest_tree
from audit.frameworks.clauses import Basis, EvidenceKind, Framework, Part
from audit.frameworks.mapping import ClauseSupport, Evidence, FrameworkSupport, map_frameworks
from audit.records import Contrast, Findings
from reports.instruments import Instrument, slug
from reports.numbers import count, listed, plural, visible
from reports.queries import LADDER
from reports.view import Cell, Chapter, Column, Link, Passage, Row, Table, whole

CITABLE = "citable"
HEADING = "What this report can be used for, and what not"
NO_EVIDENCE = "no evidence in this audit"
_LEAD = (
    (
        "The tables say under which clauses something in this report may be cited, as what, and what that leaves open."
        " They decide nothing: no report fulfils a clause, and whether a text applies is for its reader to say. Clauses"
        " are told in this project's own words; check the original."
    ),
    (
        "Cited are findings on the rungs “confirmed” and “causal”, with the question that they answer, and none below."
        f" A clause that asks for findings and has none reads “{NO_EVIDENCE}”: that nothing was found is evidence of"
        " nothing. The other clauses cite what the report says of its instrument, its procedure or itself, which is no"
        " statement about the model."
    ),
)
NOTHING = "No concept was audited, so nothing in this report may be cited under any clause."
BASES: dict[Basis, str] = {
    Basis.ORIGINAL: "compared with the original",
    Basis.REPRINT: "compared with a reprint",
    Basis.SUMMARY: "compared with what others write about it",
    Basis.MEMORY: "from memory",
}
PARTS: dict[Part, tuple[str, str]] = {
    Part.SUITES: ("suites", "suites"),
    Part.METHOD: ("method", "method"),
    Part.FIDELITY: ("fidelity", "fidelity-chapter"),
    Part.CERTIFICATES: ("certificates", "certificate"),
    Part.BASELINES: ("baselines", "findings"),
    Part.CONTROL_INSTRUMENTS: ("control SAEs", "controls"),
    Part.SHUFFLED_LABELS: ("shuffled labels", "controls"),
    Part.POWER: ("power", "findings"),
    Part.NOT_TESTED: ("what was not tested", "not-tested"),
    Part.LIMITATIONS: ("limitations", "limitations"),
    Part.REPRODUCIBILITY: ("reproducibility", "reproducibility"),
    Part.DIGESTS: ("digests", "digests"),
    Part.SEAL: ("seal", "verification"),
}
_PLACES = {
    EvidenceKind.MIXES: ("findings in mixes", "interactions"),
    EvidenceKind.INTERVENTIONS: ("causal effects", "causal"),
    EvidenceKind.PAIRS: ("causal pairs", "interactions"),
}


def frameworks_view(findings: Findings, frameworks: Sequence[Framework], instruments: Sequence[Instrument]) -> Chapter:
    """Return the chapter: what may be cited at all, then a table a framework that concerns the audited domains."""
    mapping = map_frameworks(findings, frameworks)
    certificate = next((i.place_id("certificate") for i in instruments if i.result.certificate is not None), "")
    return Chapter(
        id="frameworks",
        heading=HEADING,
        lead=(*_LEAD, *_left_out(mapping.left_out)),
        terms=(),
        passages=(
            *((_citable(findings, mapping.evidence, frameworks),) if findings.concepts else ()),
            *(_framework(each, certificate) for each in mapping.frameworks),
        ),
        missing="" if findings.concepts else NOTHING,
    )


def _left_out(frameworks: Sequence[Framework]) -> tuple[str, ...]:
    if not frameworks:
        return ()
    named = [f"{visible(each.name)} ({listed([visible(domain) for domain in each.domains])})" for each in frameworks]
    return (f"Left out, since no concept of their domains was audited: {'; '.join(named)}.",)


def _files(frameworks: Sequence[Framework]) -> str:
    digest = digest_tree({framework.file: framework.digest for framework in frameworks})
    return (
        "The clauses are files of the tool and no findings: another version may word them differently over the same"
        f" findings. Digest of the {count(len(frameworks))} files that were read: {digest}"
    )


def _citable(findings: Findings, evidence: Sequence[Evidence], frameworks: Sequence[Framework]) -> Passage:
    domains = list(dict.fromkeys(concept.domain for concept in findings.concepts))
    of_mixes = sum(each.kind is EvidenceKind.MIXES for each in evidence)
    of_pairs = sum(each.kind is EvidenceKind.PAIRS for each in evidence)
    return Passage(
        "citable-passage",
        "What may be cited from this audit",
        tables=(
            whole(
                Table(
                    id=CITABLE,
                    query=LADDER,
                    caption="Findings on the rungs “confirmed” and “causal”, by domain",
                    columns=(
                        Column("Domain"),
                        *(Column(f"On the {contrast.value}", numeric=True) for contrast in Contrast),
                        Column("Causal effects", numeric=True),
                        Column("Concepts", detail="with the number of findings on single features"),
                    ),
                    rows=tuple(_domain_row(domain, findings, evidence) for domain in domains),
                    note=(
                        "A finding is one feature on one question of one concept, through one instrument. In mixes of"
                        f" two concepts, {plural(of_mixes, 'finding')} on single features and {count(of_pairs)} on"
                        f" pairs may be cited. {_files(frameworks)}"
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
            Cell("" if links else "none", links=links),
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
                        Column("Clause"),
                        Column("What it asks"),
                        Column("What here may be cited"),
                        Column("What that does not cover"),
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
        f"{BASES[basis]}: {', '.join(visible(each.number) for each in framework.clauses if each.basis is basis)}"
        for basis in Basis
        if any(each.basis is basis for each in framework.clauses)
    ]
    checked = framework.checked
    return f"Paraphrased and last checked on {checked.day} {checked:%B %Y}; {'; '.join(parts)}."


def _clause(support: ClauseSupport, certificate: str) -> Row:
    clause = support.clause
    cited = (
        Cell(visible(clause.use), links=(*_evidence_links(support), *_part_links(support.parts, certificate)))
        if support.supported
        else Cell(NO_EVIDENCE, mark="unresolved")
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
        parts = [f"{count(numbers[c]) if numbers[c] else 'none'} on the {c.value}" for c in Contrast if c in asked]
        place = f"domain-{slug(domains[0])}" if len(domains) == 1 else CITABLE
        links.append(Link(f"findings: {', '.join(parts)}", place))
    for kind, (name, place) in _PLACES.items():
        if number := sum(each.kind is kind for each in support.evidence):
            links.append(Link(f"{name}: {count(number)}", place))
    return tuple(links)


def _part_links(parts: Sequence[Part], certificate: str) -> tuple[Link, ...]:
    return tuple(Link(PARTS[part][0], certificate if part is Part.CERTIFICATES else PARTS[part][1]) for part in parts)
