"""The pages for a reader with ten minutes: what was found, in words; the charts are in `reports.overview`."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import (
    ConceptResult,
    Contrast,
    ContrastResult,
    Findings,
    PermutationControl,
    Reading,
    Rung,
    RunInfo,
)
from reports.concepts import outcome_words
from reports.instruments import Instrument, contrast_of, fidelity_of, instrument_words, slug
from reports.interactions import interaction_sentence
from reports.interventions import causal_sentence
from reports.language import _, ngettext
from reports.numbers import NOT_MEASURED, count, listed, plural, share, visible
from reports.overview import overview_charts, overview_table
from reports.policy import policy_sentence
from reports.view import Cell, Summary, SummaryRow
from reports.words import COLOUR_OVERALL, COLOUR_SHORT, COLOURS, reading_words, word

# More names than this turn a sentence into a list; the table beside it names them all.
NAMED_CONCEPTS = 6


def summary_view(findings: Findings, run: RunInfo, instruments: Sequence[Instrument]) -> Summary:
    """Return the summary: a row a concept, plain sentences, and the overview charts with their table."""
    return Summary(
        lead=_(
            "For each concept two questions are asked. Topic: does the model tell this subject from another?"
            " Distinction: does it tell the sensitive case from a near twin in the same words? Each is answered"
            " twice: can the model do it, and does the instrument show where."
        ),
        rows=tuple(_summary_row(concept, instruments) for concept in findings.concepts),
        note=_table_note(instruments),
        sentences=_sentences(findings, run, instruments),
        charts=overview_charts(findings, instruments),
        chart_table=overview_table(findings, instruments),
    )


def _table_note(instruments: Sequence[Instrument]) -> str:
    main, *others = instruments
    if not others:
        return ""
    return ngettext(
        "The answers and colours are those of {main}. {others} looked as well: where its answer or colour is another"
        " one, the cell adds it; where nothing is added, it is the same.",
        "The answers and colours are those of {main}. {others} looked as well: where their answer or colour is another"
        " one, the cell adds it; where nothing is added, it is the same.",
        len(others),
        main=main.label,
        others=listed([others[0].subject, *(instrument.label for instrument in others[1:])]),
    )


def _summary_row(concept: ConceptResult, instruments: Sequence[Instrument]) -> SummaryRow:
    return SummaryRow(
        concept=visible(concept.title),
        href=f"concept-{slug(concept.id)}",
        domain=_("{domain}, exploratory", domain=visible(concept.domain))
        if concept.exploratory
        else visible(concept.domain),
        definition=visible(concept.definition),
        topic=_reading_cell(concept, Contrast.TOPIC, instruments),
        distinction=_reading_cell(concept, Contrast.DISTINCTION, instruments),
        outcome=Cell(outcome_words(concept.outcome)),
        instrument=_colour_cell(concept, instruments),
    )


def _reading_cell(concept: ConceptResult, contrast: Contrast, instruments: Sequence[Instrument]) -> Cell:
    """Return the main instrument's answer; the detail adds every other's that is not the same."""
    main, *others = instruments
    result = contrast_of(concept, contrast, sae=main.sae)
    remarks = []
    for other in others:
        found = contrast_of(concept, contrast, sae=other.sae)
        if found is None and result is not None:
            remarks.append(_("{instrument}: not analysed", instrument=other.remark))
        elif found is not None and (result is None or found.reading is not result.reading):
            seen = f"; {_confirmed(found)}" if found.reading is Reading.DECOMPOSED else ""
            remarks.append(f"{other.remark}: {reading_words(found.reading).remark}{seen}")
    if result is None:
        untested = next((u for u in concept.untested if u.contrast is contrast and u.sae == main.sae), None)
        if untested is not None:
            words = reading_words(Reading.UNRESOLVED)
            return Cell(words.short, detail="\n".join([visible(untested.reason), *remarks]), mark=words.mark)
        why = _("This question was not put for this concept.")
        return Cell(_("Not analysed"), detail="\n".join([why, *remarks]), mark="unresolved")
    words = reading_words(result.reading)
    return Cell(words.short, detail="\n".join([_reading_detail(result), *remarks]), mark=words.mark)


def _confirmed(result: ContrastResult) -> str:
    return plural(result.confirmed, "{count} feature confirmed", "{count} features confirmed")


def _reading_detail(result: ContrastResult) -> str:
    if result.reading is Reading.DECOMPOSED:
        return _confirmed(result)
    if result.reading is Reading.NOT_DECOMPOSED:
        return _("no single feature shows it")
    if result.reading is Reading.NOT_REPRESENTED:
        return _("at this place in the model")
    if result.reading is Reading.SUSPECT:
        return _("a feature reacts, the simple check does not")
    return _("the evidence allows no answer")


def _colour_cell(concept: ConceptResult, instruments: Sequence[Instrument]) -> Cell:
    main, *others = instruments
    row = fidelity_of(concept, sae=main.sae)
    colour = row.colour if row else None
    remarks = []
    for other in others:
        found = fidelity_of(concept, sae=other.sae)
        if (found.colour if found else None) is not colour:
            remarks.append(f"{other.remark}: {_(COLOUR_SHORT[found.colour] if found else NOT_MEASURED)}")
    if colour is None:
        return Cell(_(NOT_MEASURED), detail="\n".join(remarks))
    return Cell(_(COLOUR_SHORT[colour]), detail="\n".join(remarks), mark=colour.value)


def _sentences(findings: Findings, run: RunInfo, instruments: Sequence[Instrument]) -> tuple[str, ...]:
    """Return what the results mean and what they do not, in plain sentences."""
    several = len(instruments) > 1
    others = _others_sentence(findings, instruments)
    return (
        (
            _(
                "{model} was asked to read {situations} on {concepts}, while {instruments}.",
                model=visible(findings.model.name),
                situations=plural(
                    sum(s.scenarios for s in findings.suites),
                    "{count} hand-written situation",
                    "{count} hand-written situations",
                ),
                concepts=plural(len(findings.concepts), "{count} sensitive concept", "{count} sensitive concepts"),
                instruments=instrument_words(instruments, layers=findings.model.layers),
            )
            + f" {colour_sentence(instruments)}"
        ),
        distinction_sentence(findings, instruments[0]) + (f" {others}" if others else ""),
        _ladder_sentence(findings, several=several),
        interaction_sentence(findings),
        _("That a feature reacts to a concept does not show that the model uses it when it answers.")
        + " "
        + (
            _("Only the findings on the rung “causal” speak about use.")
            if _speaks_of_use(findings)
            else _("No finding in this report speaks about use.")
        ),
        causal_sentence(findings),
        (
            _(
                "That no feature was found does not show that the model lacks the concept: the model may hold it where"
                " these instruments do not look."
            )
            if several
            else _(
                "That no feature was found does not show that the model lacks the concept: the model may hold it where"
                " this instrument does not look."
            )
        ),
        permutation_sentence(findings.permutation_control),
        policy_sentence(run),
    )


def _speaks_of_use(findings: Findings) -> bool:
    tested = findings.causal.effects if findings.causal is not None else ()
    return findings.ladder.get(Rung.CAUSAL.value, 0) > 0 or any(effect.rung is Rung.CAUSAL for effect in tested)


def colour_sentence(instruments: Sequence[Instrument]) -> str:
    """Return how the instruments are rated overall, and what the main one's colour means."""
    main, *others = instruments
    colour = main.result.fidelity.colour
    rated = _("{instrument} is rated {colour} overall.", instrument=main.subject, colour=word(colour))
    rated = f"{rated} {_(COLOURS[colour])}"
    return " ".join([rated, *(_rated_too(other) for other in others)])


def _rated_too(other: Instrument) -> str:
    return _(COLOUR_OVERALL[other.result.fidelity.colour], instrument=other.heading)


def distinction_sentence(findings: Findings, main: Instrument) -> str:
    """Return for which concepts the sensitive case is told from its twin, as the main instrument shows it.

    Many concepts are counted, few are named.
    """
    titles: dict[Reading, list[str]] = {reading: [] for reading in Reading}
    named = len(findings.concepts) <= NAMED_CONCEPTS
    for concept in findings.concepts:
        result = contrast_of(concept, Contrast.DISTINCTION, sae=main.sae)
        if result is not None:
            titles[result.reading].append(f"“{visible(concept.title)}”")
    total = plural(sum(len(names) for names in titles.values()), "{count} concept", "{count} concepts")
    shares = [
        (listed(names) if named else _("{number} of {total}", number=count(len(names)), total=total), reading)
        for reading, names in titles.items()
        if names
    ]
    if not shares:
        return _(
            "No concept's sensitive case was compared with its near twin, so nothing is said about that distinction."
        )
    asked = _("Can the model tell the sensitive case from its near twin in the same words?")
    answers = [
        _("for {concepts} {answer}", concepts=of, answer=reading_words(reading).answer) for of, reading in shares
    ]
    if not main.alone:
        return f"{asked} " + _("Seen with {instrument}: {answers}.", instrument=main.label, answers="; ".join(answers))
    of, reading = shares[0]
    first = _("For {concepts} {answer}", concepts=of, answer=reading_words(reading).answer)
    return f"{asked} {'; '.join([first, *answers[1:]])}."


def _others_sentence(findings: Findings, instruments: Sequence[Instrument]) -> str:
    """Return for how many concepts another instrument answers the same question differently; the table says how."""
    main, *others = instruments
    parts = []
    for other in others:
        pairs = [
            (here.reading, there.reading)
            for concept in findings.concepts
            if (here := contrast_of(concept, Contrast.DISTINCTION, sae=main.sae)) is not None
            and (there := contrast_of(concept, Contrast.DISTINCTION, sae=other.sae)) is not None
        ]
        if pairs:
            differing = sum(here is not there for here, there in pairs)
            parts.append(_differing(other, differing, len(pairs)))
    return " ".join(parts)


def _differing(other: Instrument, differing: int, concepts: int) -> str:
    words = {
        "instrument": other.heading,
        "number": count(differing),
        "concepts": plural(concepts, "{count} concept", "{count} concepts"),
    }
    if differing:
        return _("{instrument} gives another answer for {number} of {concepts}; the table says which.", **words)
    return _("{instrument} gives another answer for {number} of {concepts}.", **words)


def _ladder_sentence(findings: Findings, *, several: bool) -> str:
    ladder = findings.ladder
    if not sum(ladder.values()):
        return _(
            "No feature was selected for any concept, so there is no finding about a single feature. This is not a"
            " pass."
        )
    high = ladder.get(Rung.CONFIRMED.value, 0) + ladder.get(Rung.CAUSAL.value, 0)
    words = {
        "findings": plural(sum(ladder.values()), "{count} finding", "{count} findings"),
        "by_question": _by_question(findings),
    }
    if several:
        return plural(
            high,
            "Of {findings} about single features, counted over all instruments, {count} stands up to the full test on"
            " situations that were held back ({by_question}); the others are reported with the reason why they do not.",
            "Of {findings} about single features, counted over all instruments, {count} stand up to the full test on"
            " situations that were held back ({by_question}); the others are reported with the reason why they do not.",
            **words,
        )
    return plural(
        high,
        "Of {findings} about single features, {count} stands up to the full test on situations that were held back"
        " ({by_question}); the others are reported with the reason why they do not.",
        "Of {findings} about single features, {count} stand up to the full test on situations that were held back"
        " ({by_question}); the others are reported with the reason why they do not.",
        **words,
    )


def _by_question(findings: Findings) -> str:
    """Return how many findings each of the two questions has: one about the topic is none about the distinction."""
    contrasts = [contrast for concept in findings.concepts for contrast in concept.contrasts]
    numbers = {
        asked: sum(
            finding.rung.height >= Rung.CONFIRMED.height
            for contrast in contrasts
            if contrast.contrast is asked
            for finding in contrast.findings
        )
        for asked in Contrast
    }
    return ", ".join(
        _("{number} on the {contrast}", number=count(number), contrast=word(asked)) for asked, number in numbers.items()
    )


def permutation_sentence(control: PermutationControl) -> str:
    """Return what the check on false alarms found; a failure takes every finding with it."""
    numbers = {
        "times": plural(control.permutations, "{count} time", "{count} times"),
        "found": plural(control.with_any_finding, "{count} time", "{count} times"),
        "rate": share(control.rate),
        "limit": share(control.limit),
    }
    if control.passed:
        return _(
            "As a check on false alarms the labels were shuffled {times}, so that there was nothing to find; the"
            " procedure still found something {found} ({rate}, allowed: {limit}), so the check is passed.",
            **numbers,
        )
    return _(
        "As a check on false alarms the labels were shuffled {times}, so that there was nothing to find; the procedure"
        " still found something {found} ({rate}, allowed: {limit}), so the check FAILED and no finding can be relied"
        " on.",
        **numbers,
    )
