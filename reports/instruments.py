"""Names the instruments (SAEs) of an audit as the report speaks of them, main one first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from audit.errors import EvidenceError
from audit.records import ConceptResult, Contrast, ContrastResult, Fidelity, Findings, InstrumentResult
from reports.language import _
from reports.numbers import listed, visible

NO_BREAK = "\N{NO-BREAK SPACE}"
_SITE = re.compile(r"resid_(pre|post)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One SAE with the words for it.

    Args:
        result: its record, fidelity, exclusions and certificate.
        number: 1 for the main one.
        alone: whether the audit used no other; then no number is needed to tell it apart.
        shared_site: whether another SAE reads at the same site, so that the site alone does not name it.
    """

    result: InstrumentResult
    number: int
    alone: bool
    shared_site: bool

    @property
    def sae(self) -> str:
        """Return the name under which results refer to it."""
        return self.result.record.name

    @property
    def place(self) -> str:
        """Return its site in plain words, such as `layer 15`."""
        return place_words(self.result.record.site)

    @property
    def label(self) -> str:
        """Return what stands in tables and sentences: `the instrument`, or `instrument 2 (layer 20)`."""
        return (
            _("the instrument")
            if self.alone
            else _("instrument {number} ({place})", number=self.number, place=self.place)
        )

    @property
    def heading(self) -> str:
        """Return the label as a heading begins with it."""
        return (
            _("Instrument") if self.alone else _("Instrument {number} ({place})", number=self.number, place=self.place)
        )

    @property
    def subject(self) -> str:
        """Return the label as a sentence begins with it."""
        return _("The instrument") if self.alone else self.heading

    @property
    def remark(self) -> str:
        """Return how a short remark begins: `At layer 20`, or with its number where the site is shared."""
        return self._remark(self.place)

    @property
    def bound_remark(self) -> str:
        """Return the same, with nothing between layer and number where a line may end."""
        return self._remark(self._bound_place)

    @property
    def short(self) -> str:
        """Return it in as few words as tell it apart, such as `layer 15`, on one line."""
        return _("instrument {number}", number=self.number) if self.shared_site else self._bound_place

    @property
    def _bound_place(self) -> str:
        site = self.result.record.site
        return self.place.replace(" ", NO_BREAK) if _SITE.fullmatch(site) else self.place

    def _remark(self, place: str) -> str:
        return _("Instrument {number}", number=self.number) if self.shared_site else _("At {place}", place=place)

    def place_id(self, stem: str) -> str:
        """Return a fragment: the stem itself for the main instrument, with the SAE's name for every other."""
        return stem if self.number == 1 else f"{stem}-{slug(self.sae)}"


def slug(text: str) -> str:
    """Return a fragment name: lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def place_words(site: str) -> str:
    """Return a site in plain words; a site of another form is printed as it is."""
    match = _SITE.fullmatch(site)
    if match is None:
        return visible(site)
    return _("layer {number}", number=match[2]) if match[1] == "post" else _("input of layer {number}", number=match[2])


def instruments_of(findings: Findings) -> tuple[Instrument, ...]:
    """Return the instruments in the order of the findings.

    Raises:
        EvidenceError: there is none, or two have one name, so that results could not be told apart.
    """
    names = [result.record.name for result in findings.saes]
    if not names or len({slug(name) for name in names}) < len(names):
        raise EvidenceError(
            item="findings.saes",
            expected="at least one SAE, each with a name of its own",
            found=", ".join(names) or "none",
            hint="Name every SAE differently and run the audit again.",
        )
    sites = [result.record.site for result in findings.saes]
    return tuple(
        Instrument(
            result,
            number=number,
            alone=len(names) == 1,
            shared_site=sites.count(result.record.site) > 1,
        )
        for number, result in enumerate(findings.saes, start=1)
    )


def contrast_of(concept: ConceptResult, contrast: Contrast, *, sae: str) -> ContrastResult | None:
    """Return one contrast's result through one SAE, or None when it was not analysed."""
    return next((r for r in concept.contrasts if r.contrast is contrast and r.sae == sae), None)


def fidelity_of(concept: ConceptResult, *, sae: str) -> Fidelity | None:
    """Return the fidelity of one SAE on one concept, or None when the record has no such row."""
    return next((row for row in concept.fidelity if row.sae == sae), None)


def instrument_words(instruments: Sequence[Instrument], *, layers: int) -> str:
    """Return which SAEs looked and where, for a sentence."""
    if len(instruments) == 1:
        only = instruments[0]
        return _(
            "one instrument, the SAE {sae}, looked at its inner state at {place}{layers}",
            sae=visible(only.sae),
            place=only.place,
            layers=_of(layers),
        )
    named = [
        _("{instrument}, the SAE {sae}", instrument=instrument.label, sae=visible(instrument.sae))
        for instrument in instruments
    ]
    return _(
        "{number} instruments looked at its inner state{layers}: {names}",
        number=len(instruments),
        layers=_of(layers),
        names=listed(named),
    )


def _of(layers: int) -> str:
    return " " + _("(the model has {layers} layers, counted from 0)", layers=layers)
