"""Which rows a comparison asks for: what each bundle's own discovery chose, never what differs between the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.differences.instruments import Instruments
from audit.differences.values import Wanted
from audit.records import Contrast, ContrastResult, Findings, MixMeasure, MixResult, RowKind, Rung

SCORE_UNIT, NATS, AUROC, OWN_SD = "activation", "nats", "AUROC", "own standard deviations"
# The fourth measure counts scenarios above a threshold that each audit fixed for itself.
COMPARED_MEASURES = (MixMeasure.ALIGNED_A, MixMeasure.ALIGNED_B, MixMeasure.ADDITIVE)


@dataclass(frozen=True, slots=True)
class AskedRow:
    """One row before it is measured: what it reads from each of the two bundles."""

    base: Wanted
    new: Wanted
    match_r: float | None
    unit: str

    @property
    def id(self) -> str:
        """Return the row's name, unique in a comparison."""
        own = self.base
        parts = (own.part, own.kind.name.lower(), own.contrast, own.sae, own.latent, own.measure and own.measure.name)
        return "/".join(str(part).lower() for part in parts if part is not None)

    @property
    def standardised(self) -> bool:
        """Return whether each side is measured in its own standard deviations."""
        return self.unit == OWN_SD


def asked_latents(base: Findings, new: Findings, pairs: Mapping[str, str]) -> dict[str, tuple[list[int], list[int]]]:
    """Return for each SAE of the base the latents that any row may ask for, of both bundles.

    Args:
        base: the findings of the one.
        new: of the other.
        pairs: base SAE -> new SAE.
    """
    return {one: (sorted(_chosen_anywhere(base, one)), sorted(_chosen_anywhere(new, pairs[one]))) for one in pairs}


def asked_rows(base: Findings, new: Findings, instruments: Sequence[Instruments]) -> tuple[AskedRow, ...]:
    """Return every row of a comparison: features, interactions, answers, and how well the first of each separates."""
    rows: list[AskedRow] = []
    for concept in base.concepts:
        rows += _answers(concept.id)
        sites: set[str] = set()
        for pair in instruments:
            for contrast in Contrast:
                if pair.record.new is None:
                    continue
                if pair.record.site not in sites:
                    probe = Wanted(RowKind.PROBE_AUROC, concept.id, contrast, pair.record.base)
                    other = Wanted(RowKind.PROBE_AUROC, concept.id, contrast, pair.record.new)
                    rows.append(AskedRow(probe, other, None, AUROC))
                if pair.comparable(concept.id):
                    rows += _features(base, new, concept.id, contrast, pair)
            sites.add(pair.record.site)
    for mix in base.mixes:
        for pair in (pair for pair in instruments if pair.comparable(mix.id)):
            rows += _interactions(base, new, mix, pair)
    return tuple(rows)


def _answers(concept: str) -> list[AskedRow]:
    asked = (Wanted(kind, concept) for kind in (RowKind.OUTCOME, RowKind.ANSWER))
    return [AskedRow(one, one, None, NATS) for one in asked]


def _features(base: Findings, new: Findings, concept: str, contrast: Contrast, pair: Instruments) -> Iterator[AskedRow]:
    sae, other = pair.record.base, pair.record.new or ""
    one, two = _result(base, concept, contrast, sae), _result(new, concept, contrast, other)
    if one is not None and two is not None and one.best_latent is not None and two.best_latent is not None:
        first = Wanted(RowKind.FEATURE_AUROC, concept, contrast, sae, one.best_latent)
        second = Wanted(RowKind.FEATURE_AUROC, concept, contrast, other, two.best_latent)
        yield AskedRow(first, second, None, AUROC)
    for latent, (partner, r) in _pairs(_chosen(one), _chosen(two), pair):
        yield AskedRow(
            Wanted(RowKind.FEATURE, concept, contrast, sae, latent),
            Wanted(RowKind.FEATURE, concept, contrast, other, partner),
            r,
            SCORE_UNIT if pair.partners is None else OWN_SD,
        )


def _interactions(base: Findings, new: Findings, mix: MixResult, pair: Instruments) -> Iterator[AskedRow]:
    sae, other = pair.record.base, pair.record.new or ""
    one, two = _confirmed(base, mix.concepts, sae), _confirmed(new, mix.concepts, other)
    for latent, (partner, r) in _pairs(one, two, pair):
        for measure in COMPARED_MEASURES:
            yield AskedRow(
                Wanted(RowKind.INTERACTION, mix.id, None, sae, latent, measure),
                Wanted(RowKind.INTERACTION, mix.id, None, other, partner, measure),
                r,
                SCORE_UNIT if pair.partners is None else OWN_SD,
            )


def _pairs(base: set[int], new: set[int], pair: Instruments) -> list[tuple[int, tuple[int, float | None]]]:
    """Return the latents that either bundle chose, by the base's number, with their partners; others have none."""
    owners = (pair.owner(latent) for latent in new)
    wanted = sorted(base | {owner for owner in owners if owner is not None})
    return [(latent, found) for latent in wanted if (found := pair.partner(latent)) is not None]


def _result(findings: Findings, concept: str, contrast: Contrast, sae: str) -> ContrastResult | None:
    own = (part for part in findings.concepts if part.id == concept)
    return next((r for part in own for r in part.contrasts if (r.contrast, r.sae) == (contrast, sae)), None)


def _chosen(result: ContrastResult | None) -> set[int]:
    """Return what discovery chose: the features that it selected, and the one that it ranks first."""
    if result is None:
        return set()
    first = set() if result.best_latent is None else {result.best_latent}
    return first | {finding.latent for finding in result.findings}


def _chosen_anywhere(findings: Findings, sae: str) -> set[int]:
    results = (r for concept in findings.concepts for r in concept.contrasts if r.sae == sae)
    return {latent for result in results for latent in _chosen(result)}


def _confirmed(findings: Findings, concepts: Sequence[str], sae: str) -> set[int]:
    """Return the features that are confirmed for one of the concepts on other texts than the mix's."""
    return {
        finding.latent
        for concept in findings.concepts
        if concept.id in concepts
        for result in concept.contrasts
        if result.sae == sae
        for finding in result.findings
        if finding.rung.height >= Rung.CONFIRMED.height
    }
