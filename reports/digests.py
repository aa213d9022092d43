"""What a long report prints of a concept: a row a question and instrument, and the features that stand."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import BaselineKind, ConceptResult, ContrastResult, Finding, Rung
from reports.contrasts import card_id, estimate_cell, lexical_word
from reports.effects import in_order
from reports.features import cut_words
from reports.instruments import Instrument, contrast_of, slug
from reports.language import _
from reports.numbers import count, decimal, listed, plain, plural, probability, visible
from reports.queries import SCORES
from reports.view import Cell, Column, Row, Table, whole
from reports.words import CONTRAST_NAMES, reading_words, word

PRINTED_STANDING = 4
SHOWN_STANDING = 8


def digest_table(concept: ConceptResult, instruments: Sequence[Instrument]) -> Table:
    """Return a row a question and instrument: the reading, who tells the arms apart, and how many features stand."""
    rows = tuple(
        _digest_row(result, instrument)
        for contrast in dict.fromkeys(result.contrast for result in concept.contrasts)
        for instrument in instruments
        if (result := contrast_of(concept, contrast, sae=instrument.sae)) is not None
    )
    return whole(
        Table(
            id=f"digest-{slug(concept.id)}",
            caption=_(
                "{concept}: who tells the arms apart (confirmation scenarios, AUROC)", concept=visible(concept.title)
            ),
            columns=(
                Column(_("Question")),
                Column(_("Reading")),
                Column(_("Linear probe"), numeric=True, detail=_("95% interval")),
                Column(_("First feature"), numeric=True, detail=_("95% interval")),
                Column(_("Best neuron"), numeric=True),
                Column(_("Words"), numeric=True),
                Column(_("Confirmed"), numeric=True, detail=_("passing / tested")),
                Column("n", numeric=True),
            ),
            rows=rows,
            query=SCORES,
            empty=_("No contrast of this concept was analysed. This is no pass."),
            layout="digest",
        )
    )


def _digest_row(result: ContrastResult, instrument: Instrument) -> Row:
    words = reading_words(result.reading)
    where = "" if instrument.alone else instrument.place
    return Row(
        (
            Cell(_(CONTRAST_NAMES[result.contrast]), detail=where),
            Cell(words.short, mark=words.mark),
            estimate_cell(result.probe.auroc),
            estimate_cell(result.best_auroc),
            _baseline_cell(result, BaselineKind.NEURON),
            _baseline_cell(result, BaselineKind.WORDS),
            Cell(count(result.confirmed), detail=f"{count(result.passing)} / {count(result.tested)}"),
            Cell(count(result.n_confirmation)),
        )
    )


def _baseline_cell(result: ContrastResult, kind: BaselineKind) -> Cell:
    """Return a baseline's AUROC; not every site has neurons."""
    return Cell(decimal(next((own.auroc.value for own in result.baselines if own.kind is kind), None)))


def standing_table(
    concept: ConceptResult, instruments: Sequence[Instrument], *, carded: frozenset[tuple[str, int]]
) -> Table:
    """Return the features of a concept that are confirmed, or that pass where the instrument admits no answer."""
    found = [
        (finding, instrument)
        for contrast in dict.fromkeys(result.contrast for result in concept.contrasts)
        for instrument in instruments
        if (result := contrast_of(concept, contrast, sae=instrument.sae)) is not None
        for finding in in_order(result.findings)
        if finding.rung.height >= Rung.CONFIRMED.height or finding.rung is Rung.UNRESOLVED
    ]
    rows = tuple(_standing_row(finding, instrument, carded) for finding, instrument in found)
    weaker = sum(len(result.findings) for result in concept.contrasts) - len(rows)
    return Table(
        id=f"standing-{slug(concept.id)}",
        caption=_("{concept}: the features that stand", concept=visible(concept.title)),
        columns=(
            Column(_("Feature"), detail=_("question")),
            Column(_("Rung")),
            Column("d_z", numeric=True, detail=_("95% interval")),
            Column(_("AUROC"), numeric=True, detail=_("95% interval")),
            Column(_("p Holm"), numeric=True),
            Column("n", numeric=True, detail=_("non-zero")),
            Column(_("Lexical")),
        ),
        rows=rows,
        printed=rows[:PRINTED_STANDING],
        cut=cut_words(min(PRINTED_STANDING, len(rows)), len(rows), _("The first features by question and rung")),
        note=(
            plural(
                weaker,
                "{count} more feature was chosen on discovery and not confirmed; the HTML report has them with their"
                " reasons.",
                "{count} more features were chosen on discovery and not confirmed; the HTML report has them with their"
                " reasons.",
            )
        ),
        empty=(
            plural(
                weaker,
                "No feature stands. {count} feature was chosen on discovery and not confirmed; the HTML report has them"
                " with their reasons. This is no pass.",
                "No feature stands. {count} features were chosen on discovery and not confirmed; the HTML report has"
                " them with their reasons. This is no pass.",
            )
        ),
        query=listed(sorted({visible(finding.query) for finding, _instrument in found})),
        shown=SHOWN_STANDING,
        layout="standing",
    )


def _standing_row(finding: Finding, instrument: Instrument, carded: frozenset[tuple[str, int]]) -> Row:
    linked = (finding.sae, finding.latent) in carded
    asked = word(finding.contrast) + ("" if instrument.alone else f", {instrument.place}")
    return Row(
        (
            Cell(
                str(finding.latent),
                detail=asked,
                href=card_id(finding.sae, finding.latent) if linked else "",
                code=True,
            ),
            Cell(word(finding.rung), mark=f"rung-{finding.rung.value}"),
            estimate_cell(finding.d_z, with_sign=True),
            estimate_cell(finding.auroc),
            Cell(probability(finding.p_holm), sort=plain(finding.p_holm)),
            Cell(count(finding.n_scenarios), detail=count(finding.n_nonzero)),
            Cell(lexical_word(finding)),
        )
    )
