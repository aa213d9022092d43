"""The chapter on interactions: the mixes in the layer of contrasts, pairs under intervention, and co-firing."""

from __future__ import annotations

from collections import Counter

from audit.records import Findings, Layer
from reports.cofiring import cofiring_communities, cofiring_counts, cofiring_pairs
from reports.features import Names
from reports.interaction_words import (
    LAYER_MEANINGS,
    LAYER_NAMES,
    MIX_WORDS,
    NEVER_MIXED,
    NO_COFIRING,
    NO_MIXES,
    PAIR_WORDS,
)
from reports.language import N_, _
from reports.mixes import MixAnswer, claimed, honest_table, mix_answer, mix_features, unresolved
from reports.numbers import count, plural
from reports.pairs import matrix_charts, pair_table
from reports.view import Chapter, Passage, Table, Term
from reports.words import word

HEADING = N_("Interactions")


def interactions_view(findings: Findings, names: Names) -> Chapter:
    """Return the chapter; what was not measured is one sentence with the reason."""
    if not findings.mixes and not findings.cofiring:
        return Chapter("interactions", _(HEADING), (), (), (), missing=f"{_(NO_MIXES)} {_(NO_COFIRING)}")
    return Chapter(
        id="interactions",
        heading=_(HEADING),
        lead=(_(NEVER_MIXED),),
        terms=tuple(Term(_(LAYER_NAMES[layer]), _(LAYER_MEANINGS[layer])) for layer in Layer),
        passages=(
            _mixes(findings, names),
            *_found(findings, names),
            *_pairs(findings, names),
            _cofiring(findings, names),
        ),
    )


def interaction_sentence(findings: Findings) -> str:
    """Return what the mixes showed, in one sentence for the summary."""
    if not findings.mixes:
        return _(NO_MIXES)
    answers = Counter(mix_answer(mix) for mix in findings.mixes)
    pairs = sum(len(mix.pairs) for mix in findings.mixes)
    found = sum(len(claimed(mix)) for mix in findings.mixes)
    no_answer = sum(len(unresolved(mix)) for mix in findings.mixes)
    changed = (
        _(
            "In {tests} of {pairs} of features, each with one concept's question, an effect beyond what both alone"
            " add up to was shown in {found}, was not shown in {null}, which is no proof of absence, and"
            " {no_answer} have no answer.",
            tests=plural(pairs, "{count} test", "{count} tests"),
            pairs=plural(len(_pair_features(findings)), "{count} pair", "{count} pairs"),
            found=count(found),
            null=count(pairs - found - no_answer),
            no_answer=count(no_answer),
        )
        if pairs
        else _("No pair of features was changed together.")
    )
    numbers = {
        "found": count(answers[MixAnswer.FOUND]),
        "none": count(answers[MixAnswer.NONE]),
        "open": count(answers[MixAnswer.UNRESOLVED]),
    }
    read = plural(
        len(findings.mixes),
        "Where {count} mix of two concepts was read, features that react to the combination were confirmed in {found},"
        " none was found in {none}, and {open} could not be answered.",
        "Where {count} mixes of two concepts were read, features that react to the combination were confirmed in"
        " {found}, none was found in {none}, and {open} could not be answered.",
        **numbers,
    )
    return f"{read} {changed}"


def _pair_features(findings: Findings) -> set[tuple[str, int, int]]:
    return {(pair.sae, pair.first, pair.second) for mix in findings.mixes for pair in mix.pairs}


def _mixes(findings: Findings, names: Names) -> Passage:
    if not findings.mixes:
        return Passage("mixes-passage", _("Mix by mix"), missing=_(NO_MIXES))
    return Passage("mixes-passage", _("Mix by mix"), tables=(honest_table(findings.mixes, names),))


def _found(findings: Findings, names: Names) -> tuple[Passage, ...]:
    table = mix_features(findings.mixes, names)
    if not table.rows:
        return ()
    return (
        Passage(
            "mix-features-passage",
            _("In the mixes: which features (contrast)"),
            terms=tuple(Term(word(claim), _(meaning)) for claim, meaning in MIX_WORDS.items()),
            tables=(table,),
        ),
    )


def _pairs(findings: Findings, names: Names) -> tuple[Passage, ...]:
    table = pair_table(findings.mixes, names)
    if not table.rows:
        return ()
    return (
        Passage(
            "pairs-passage",
            _("In the mixes: pairs of features changed together (intervention)"),
            terms=tuple(Term(word(claim), _(meaning)) for claim, meaning in PAIR_WORDS.items()),
            charts=matrix_charts(findings.mixes, names),
            tables=(table,),
        ),
    )


def _cofiring(findings: Findings, names: Names) -> Passage:
    if not findings.cofiring:
        return Passage("cofiring-passage", _("Features that fire together (observed)"), missing=_(NO_COFIRING))
    lists: tuple[Table, ...] = (
        cofiring_communities(findings.cofiring, names),
        cofiring_pairs(findings.cofiring, names),
    )
    return Passage(
        "cofiring-passage",
        _("Features that fire together (observed)"),
        tables=(cofiring_counts(findings.cofiring), *lists),
    )
