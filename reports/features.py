"""Features, concepts and shams as table cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from audit.errors import EvidenceError
from audit.records import Findings, Rung, ShamTest
from reports.contrasts import card_id
from reports.instruments import Instrument
from reports.language import N_, _
from reports.numbers import count, plural, probability, visible
from reports.view import Cell, Row
from reports.words import word

ELSEWHERE = N_("findings.json, attached to this file, and in the HTML report")


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
        return "" if instrument.alone else instrument.bound_remark

    def short_place(self, sae: str) -> str:
        """Return the SAE in as few words as tell it apart, such as `layer 15`; nothing where there is no other."""
        instrument = self.instrument(sae)
        return "" if instrument.alone else instrument.short

    def title(self, concept: str) -> str:
        """Return a concept's title, or its id where it was not audited itself."""
        return self.titles.get(concept, visible(concept))

    def feature(self, sae: str, latent: int) -> Cell:
        """Return a feature, with its instrument where there are several, linked to its card if it has one."""
        href = card_id(sae, latent) if (sae, latent) in self.carded else ""
        return Cell(str(latent), detail=self.short_place(sae), sort=str(latent), href=href, code=True)

    def pair(self, sae: str, first: int, second: int) -> Cell:
        """Return two features of one SAE."""
        return Cell(
            _("{first}\N{NO-BREAK SPACE}and\N{NO-BREAK SPACE}{second}", first=first, second=second),
            detail=self.short_place(sae),
            sort=str(first),
        )


def names_of(findings: Findings, instruments: Sequence[Instrument]) -> Names:
    """Return how the report speaks of the concepts, features and SAEs of an audit."""
    return Names(
        instruments={instrument.sae: instrument for instrument in instruments},
        titles={concept.id: visible(concept.title) for concept in findings.concepts},
        carded=frozenset((card.sae, card.latent) for card in findings.cards),
    )


def rung_cell(rung: Rung) -> Cell:
    """Return a rung of the ladder."""
    return Cell(word(rung), sort=str(rung.height), mark=f"rung-{rung.value}")


def sham_cell(shams: ShamTest | None) -> Cell:
    """Return how many meaningless interventions did as much."""
    if shams is None:
        return Cell(_("not run"))
    refused = shams.p_value > shams.level
    # Runs end once a claim is refused, and with none run the number is of estimates.
    least = refused and shams.exact > 0
    ran = _("{number} run", number=count(shams.exact)) if shams.exact else _("by estimate")
    numbers = {"number": count(shams.exceeding), "total": count(shams.count)}
    tested = {"p": probability(shams.p_value), "level": probability(shams.level), "ran": ran}
    return Cell(
        _("at least {number} of {total}", **numbers) if least else _("{number} of {total}", **numbers),
        detail=_("p at least {p} / {level}; {ran}", **tested) if least else _("p {p} / {level}; {ran}", **tested),
        sort=str(shams.exceeding),
    )


def cut_words(printed: int, total: int, what: str) -> str:
    """Return what a printed table leaves out; nothing where it leaves nothing out.

    Args:
        printed: how many rows are printed.
        total: how many there are.
        what: which rows are printed, as a sentence begins with it.
    """
    left_out = total - printed
    if left_out <= 0:
        return ""
    return plural(
        left_out,
        "{what} are printed ({printed} of {total} rows); the other one is in {elsewhere}.",
        "{what} are printed ({printed} of {total} rows); the other {count} are in {elsewhere}.",
        what=what,
        printed=count(printed),
        total=count(total),
        elsewhere=_(ELSEWHERE),
    )


def headed(rows: Iterable[tuple[str, Row]]) -> tuple[Row, ...]:
    """Return the rows with their heads, each printed once, where it begins."""
    before = None
    result = []
    for head, row in rows:
        result.append(replace(row, head="" if head == before else head))
        before = head
    return tuple(result)
