"""Features, concepts and shams as table cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from audit.errors import EvidenceError
from audit.records import Findings, Rung, ShamTest
from reports.contrasts import card_id
from reports.instruments import Instrument
from reports.numbers import count, probability, visible
from reports.view import Cell, Row

NO_BREAK = "\N{NO-BREAK SPACE}"
ELSEWHERE = "findings.json, attached to this file, and in the HTML report"


@dataclass(frozen=True, slots=True)
class Names:
    """How the report speaks of what the records name by id.

    Args:
        instruments: by SAE.
        titles: of the concepts, by id.
        carded: (SAE, latent) of every feature that has a card to link to.
    """

    instruments: Mapping[str, Instrument]
    titles: Mapping[str, str]
    carded: frozenset[tuple[str, int]]

    def instrument(self, sae: str) -> Instrument:
        """Return the instrument.

        Raises:
            EvidenceError: the findings describe no such SAE.
        """
        if sae not in self.instruments:
            raise EvidenceError(
                item=f"SAE {sae}",
                expected="one of the audit's SAEs",
                found=", ".join(self.instruments),
                hint="The findings name an SAE that they do not describe; run the audit again.",
            )
        return self.instruments[sae]

    def place(self, sae: str) -> str:
        """Return how a remark about an SAE begins, such as `At layer 15`; nothing where there is no other."""
        instrument = self.instrument(sae)
        return "" if instrument.alone else instrument.remark.replace("layer ", f"layer{NO_BREAK}")

    def short_place(self, sae: str) -> str:
        """Return the SAE in as few words as tell it apart, such as `layer 15`; nothing where there is no other."""
        return self.place(sae).removeprefix("At ").replace("Instrument", "instrument")

    def title(self, concept: str) -> str:
        """Return a concept's title, or its id where it was not audited itself."""
        return self.titles.get(concept, visible(concept))

    def feature(self, sae: str, latent: int) -> Cell:
        """Return a feature, with its instrument where there are several, linked to its card if it has one."""
        href = card_id(sae, latent) if (sae, latent) in self.carded else ""
        return Cell(str(latent), detail=self.short_place(sae), sort=str(latent), href=href, code=True)

    def pair(self, sae: str, first: int, second: int) -> Cell:
        """Return two features of one SAE."""
        return Cell(f"{first}{NO_BREAK}and{NO_BREAK}{second}", detail=self.short_place(sae), sort=str(first))


def names_of(findings: Findings, instruments: Sequence[Instrument]) -> Names:
    """Return how the report speaks of the concepts, features and SAEs of an audit."""
    return Names(
        instruments={instrument.sae: instrument for instrument in instruments},
        titles={concept.id: visible(concept.title) for concept in findings.concepts},
        carded=frozenset((card.sae, card.latent) for card in findings.cards),
    )


def rung_cell(rung: Rung) -> Cell:
    """Return a rung of the ladder."""
    return Cell(rung.value, sort=str(rung.height), mark=f"rung-{rung.value}")


def sham_cell(shams: ShamTest | None) -> Cell:
    """Return how many meaningless interventions did as much."""
    if shams is None:
        return Cell("not run")
    refused = shams.p_value > shams.level
    # Runs end once a claim is refused, and with none run the number is of estimates.
    least = "at least " if refused and shams.exact else ""
    ran = f"{count(shams.exact)} run" if shams.exact else "by estimate"
    return Cell(
        f"{least}{count(shams.exceeding)} of {count(shams.count)}",
        detail=f"p {least}{probability(shams.p_value)} / {probability(shams.level)}; {ran}",
        sort=str(shams.exceeding),
    )


def cut_words(printed: int, total: int, what: str) -> str:
    """Return what a printed table leaves out; nothing where it leaves nothing out."""
    left_out = total - printed
    if left_out <= 0:
        return ""
    others = f"the other {count(left_out)} are" if left_out > 1 else "the other one is"
    return (
        f"{what[:1].upper()}{what[1:]} are printed ({count(printed)} of {count(total)} rows); {others} in {ELSEWHERE}."
    )


def headed(rows: Iterable[tuple[str, Row]]) -> tuple[Row, ...]:
    """Return the rows with their heads, each printed once, where it begins."""
    before = None
    result = []
    for head, row in rows:
        result.append(replace(row, head="" if head == before else head))
        before = head
    return tuple(result)
