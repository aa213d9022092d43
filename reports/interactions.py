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
from reports.mixes import MixAnswer, claimed, honest_table, mix_answer, mix_features, unresolved
from reports.numbers import count, plural
from reports.pairs import matrix_charts, pair_table
from reports.view import Chapter, Passage, Table, Term

HEADING = "Interactions"


def interactions_view(findings: Findings, names: Names) -> Chapter:
    """Return the chapter; what was not measured is one sentence with the reason."""
    if not findings.mixes and not findings.cofiring:
        return Chapter("interactions", HEADING, (), (), (), missing=f"{NO_MIXES} {NO_COFIRING}")
    return Chapter(
        id="interactions",
        heading=HEADING,
        lead=(NEVER_MIXED,),
        terms=tuple(Term(LAYER_NAMES[layer], LAYER_MEANINGS[layer]) for layer in Layer),
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
        return NO_MIXES
    answers = Counter(mix_answer(mix) for mix in findings.mixes)
    pairs = sum(len(mix.pairs) for mix in findings.mixes)
    found = sum(len(claimed(mix)) for mix in findings.mixes)
    no_answer = sum(len(unresolved(mix)) for mix in findings.mixes)
    changed = (
        f" In {plural(pairs, 'test')} of {plural(len(_pair_features(findings)), 'pair')} of features, each with one"
        f" concept's question, an effect beyond what both alone add up to was shown in {count(found)}, was not shown in"
        f" {count(pairs - found - no_answer)}, which is no proof of absence, and {count(no_answer)} have no answer."
        if pairs
        else " No pair of features was changed together."
    )
    return (
        f"Where {plural(len(findings.mixes), 'mix', 'mixes')} of two concepts"
        f" {'was' if len(findings.mixes) == 1 else 'were'} read, features that react to the combination were confirmed"
        f" in {count(answers[MixAnswer.FOUND])}, none was found in {count(answers[MixAnswer.NONE])}, and"
        f" {count(answers[MixAnswer.UNRESOLVED])} could not be answered.{changed}"
    )


def _pair_features(findings: Findings) -> set[tuple[str, int, int]]:
    return {(pair.sae, pair.first, pair.second) for mix in findings.mixes for pair in mix.pairs}


def _mixes(findings: Findings, names: Names) -> Passage:
    if not findings.mixes:
        return Passage("mixes-passage", "Mix by mix", missing=NO_MIXES)
    return Passage("mixes-passage", "Mix by mix", tables=(honest_table(findings.mixes, names),))


def _found(findings: Findings, names: Names) -> tuple[Passage, ...]:
    table = mix_features(findings.mixes, names)
    if not table.rows:
        return ()
    return (
        Passage(
            "mix-features-passage",
            "In the mixes: which features (contrast)",
            terms=tuple(Term(word.value, meaning) for word, meaning in MIX_WORDS.items()),
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
            "In the mixes: pairs of features changed together (intervention)",
            terms=tuple(Term(word.value, meaning) for word, meaning in PAIR_WORDS.items()),
            charts=matrix_charts(findings.mixes, names),
            tables=(table,),
        ),
    )


def _cofiring(findings: Findings, names: Names) -> Passage:
    if not findings.cofiring:
        return Passage("cofiring-passage", "Features that fire together (observed)", missing=NO_COFIRING)
    lists: tuple[Table, ...] = (
        cofiring_communities(findings.cofiring, names),
        cofiring_pairs(findings.cofiring, names),
    )
    return Passage(
        "cofiring-passage",
        "Features that fire together (observed)",
        tables=(cofiring_counts(findings.cofiring), *lists),
    )
