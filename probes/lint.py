"""Check suites as data: balance, leakage, duplicates, splits, outcomes and content, for every concept and mix.

The schema says what a suite is; the lint says whether it is good enough to draw conclusions from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from probes.leakage import halves, neighbours, word_accuracy
from probes.operational import operational_content
from probes.schema import Arm, Cell, Clause, Concept, Mix, Order, Split, Suite
from probes.texts import Alike, bag_overlap, find_alike, reading_grade, word_skew

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Takes texts, returns the number of tokens of each, without special tokens."""

LIMIT_ARMS = 2
LIMIT_CUES = 4
LEAST_OVERLAP = 0.6
MOST_SKEW = 3
MOST_ALIKE = 0.35
MOST_LEAKED = 0.25
TARGET_ACCURACY = 0.75
DESIGN = {Split.DISCOVERY: 40, Split.CONFIRMATION: 24}
DESIGN_MIX = 40
DESIGN_CUES = 24
DESIGN_FRAMES = 3
FEWEST_CONFIRMED = 20


class Level(StrEnum):
    """How grave a problem is: an error makes conclusions unsafe, a warning makes them weaker."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where.

    Args:
        rule: short name of the rule, such as `token-balance`.
        where: suite, concept or scenario, and the arm where there is one.
    """

    level: Level
    rule: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        """Return the problem on one line."""
        return f"{self.level.value}: {self.where}: {self.rule}: expected {self.expected}; found {self.found}"


@dataclass(frozen=True, slots=True)
class ConceptFigures:
    """What was counted and measured of one concept.

    Args:
        cues: scenarios with both cue arms.
        tokens: mean length of the concept arm, in tokens of the tokenizer that was asked.
        shortest: of the concept arms, in tokens; longest likewise.
        widest: largest difference of length between concept and control, in tokens.
        overlap: mean Jaccard overlap of the bags of words of concept and control.
        word_accuracy: cross-validated accuracy of a bag-of-words classifier, concept against control; chance 0.5.
        neighbour_accuracy: the same with pairs of neighbouring words too.
        order_accuracy: the same with each word marked by the half of the text in which it stands.
        topic_accuracy: bag of words, concept against neutral; high by design.
        grade: Flesch-Kincaid grade of the concept arm; None for languages other than English.
    """

    suite: str
    concept: str
    title: str
    discovery: int
    confirmation: int
    cues: int
    tokens: float
    shortest: int
    longest: int
    widest: int
    overlap: float
    word_accuracy: float
    neighbour_accuracy: float
    order_accuracy: float
    topic_accuracy: float
    grade: float | None
    outcome: bool


@dataclass(frozen=True, slots=True)
class MixFigures:
    """What was counted of one mix; `tokens` is the mean length of its prompts."""

    suite: str
    mix: str
    title: str
    concepts: tuple[str, str]
    placebo: str
    discovery: int
    confirmation: int
    tokens: float


@dataclass(frozen=True, slots=True)
class LintReport:
    """Everything that the lint says about some suites."""

    tokenizer: str
    problems: tuple[Problem, ...]
    concepts: tuple[ConceptFigures, ...]
    mixes: tuple[MixFigures, ...]

    @property
    def errors(self) -> int:
        """Return the number of errors."""
        return sum(problem.level is Level.ERROR for problem in self.problems)


def lint(suites: Sequence[Suite], count_tokens: CountTokens, *, tokenizer: str) -> LintReport:
    """Check suites that are loaded together.

    Args:
        suites: every suite that an audit would run together, so that duplicates between them are found.
        count_tokens: the tokenizer of the model that the suites are meant for.
        tokenizer: its name, for the record.
    """
    problems: list[Problem] = []
    concepts, mixes = [], []
    for suite in suites:
        problems += _frames(suite)
        for concept in suite.concepts:
            lengths = _concept_lengths(concept, count_tokens)
            problems += [*_counts(concept), *_balance(concept, lengths), *_outcome(concept, count_tokens)]
            problems += [*_vocabulary(concept), *_content(_arm_texts(concept))]
            figures = _concept_figures(suite, concept, lengths)
            problems += _leakage(concept, figures)
            concepts.append(figures)
        for mix in suite.mixes:
            problems += [*_mix_counts(mix), *_mix_balance(mix, count_tokens), *_content(_clause_texts(mix))]
            mixes.append(_mix_figures(suite, mix, count_tokens))
    problems += _duplicates(suites)
    return LintReport(tokenizer, tuple(problems), tuple(concepts), tuple(mixes))


def _arm_texts(concept: Concept) -> dict[str, str]:
    return {f"{s.id}, arm {arm.value}": text for s in concept.scenarios for arm, text in s.arms.items()}


def _clause_texts(mix: Mix) -> dict[str, str]:
    return {f"{s.id}, {clause.value}": text for s in mix.scenarios for clause, text in s.clauses.items()}


def _frames(suite: Suite) -> Iterator[Problem]:
    # Mixes run as they are written, without a frame.
    if suite.concepts and len(suite.frames) < DESIGN_FRAMES:
        expected = f"{DESIGN_FRAMES} frames, so that no result hangs on one wording around the scenario"
        yield Problem(Level.WARNING, "frames", f"suite {suite.id}", expected, str(len(suite.frames)))


def _counts(concept: Concept) -> Iterator[Problem]:
    where = f"concept {concept.id}"
    for split, wanted in DESIGN.items():
        count = len(concept.in_split(split))
        if split is Split.CONFIRMATION and count < FEWEST_CONFIRMED:
            expected = f"at least {FEWEST_CONFIRMED} scenarios for confirmation, or the concept stays exploratory"
            yield Problem(Level.WARNING, "scenarios", where, expected, str(count))
        elif count < wanted:
            yield Problem(Level.WARNING, "scenarios", where, f"{wanted} scenarios for {split.value}", str(count))
    cues = _cued(concept)
    if cues < DESIGN_CUES:
        expected = f"{DESIGN_CUES} scenarios with cue and cue_free, for the verdict on words alone"
        yield Problem(Level.WARNING, "cue-arms", where, expected, str(cues))
    if concept.outcome is None:
        expected = "an outcome question, or no causal effect can be measured"
        yield Problem(Level.WARNING, "outcome", where, expected, "none")


def _cued(concept: Concept) -> int:
    return sum(Arm.CUE in s.arms and Arm.CUE_FREE in s.arms for s in concept.scenarios)


def _concept_lengths(concept: Concept, count_tokens: CountTokens) -> list[dict[Arm, int]]:
    places = [(number, arm) for number, s in enumerate(concept.scenarios) for arm in s.arms]
    counted = count_tokens([concept.scenarios[number].arms[arm] for number, arm in places])
    lengths: list[dict[Arm, int]] = [{} for _ in concept.scenarios]
    for (number, arm), length in zip(places, counted, strict=True):
        lengths[number][arm] = length
    return lengths


def _balance(concept: Concept, lengths: Sequence[dict[Arm, int]]) -> Iterator[Problem]:
    limits = {Arm.CONTROL: LIMIT_ARMS, Arm.NEUTRAL: LIMIT_ARMS, Arm.CUE: LIMIT_CUES, Arm.CUE_FREE: LIMIT_CUES}
    for scenario, own in zip(concept.scenarios, lengths, strict=True):
        for arm, limit in limits.items():
            if arm in own and abs(own[arm] - own[Arm.CONCEPT]) > limit:
                expected = f"{own[Arm.CONCEPT]} tokens, as the concept arm has, +-{limit}"
                yield Problem(
                    Level.ERROR, "token-balance", f"{scenario.id}, arm {arm.value}", expected, f"{own[arm]} tokens"
                )


def _outcome(concept: Concept, count_tokens: CountTokens) -> Iterator[Problem]:
    if concept.outcome is None:
        return
    answers = {"target": concept.outcome.target, "foil": concept.outcome.foil}
    for (name, text), count in zip(answers.items(), count_tokens(list(answers.values())), strict=True):
        if count != 1:
            where = f"concept {concept.id}, outcome.{name} {text!r}"
            yield Problem(Level.ERROR, "outcome-token", where, "one token", f"{count} tokens")
    if concept.outcome.target == concept.outcome.foil:
        where = f"concept {concept.id}, outcome"
        yield Problem(Level.ERROR, "outcome-token", where, "two different answers", f"{concept.outcome.foil!r} twice")


def _vocabulary(concept: Concept) -> Iterator[Problem]:
    for scenario in concept.scenarios:
        overlap = bag_overlap(scenario.arms[Arm.CONCEPT], scenario.arms[Arm.CONTROL])
        if scenario.arms[Arm.CONCEPT] == scenario.arms[Arm.CONTROL]:
            yield Problem(Level.ERROR, "vocabulary", scenario.id, "a control that differs", "the concept arm again")
        elif overlap < LEAST_OVERLAP:
            expected = f"concept and control that share at least {LEAST_OVERLAP:.0%} of their words"
            yield Problem(Level.ERROR, "vocabulary", scenario.id, expected, f"{overlap:.0%}")
    skew = word_skew((s.arms[Arm.CONCEPT], s.arms[Arm.CONTROL]) for s in concept.scenarios)
    for word, count in sorted(skew.items()):
        if abs(count) > MOST_SKEW:
            expected = f"each word as often in one arm as in the other, +-{MOST_SKEW} scenarios"
            arm = Arm.CONCEPT if count > 0 else Arm.CONTROL
            found = f"{word!r} in {abs(count)} more of the {arm.value} arms"
            yield Problem(Level.ERROR, "word-skew", f"concept {concept.id}", expected, found)


def _leakage(concept: Concept, figures: ConceptFigures) -> Iterator[Problem]:
    if figures.word_accuracy > TARGET_ACCURACY:
        expected = f"a bag-of-words accuracy of at most {TARGET_ACCURACY}, concept against control"
        where = f"concept {concept.id}"
        yield Problem(Level.ERROR, "lexical-leakage", where, expected, f"{figures.word_accuracy:.2f}")


def _content(texts: dict[str, str]) -> Iterator[Problem]:
    for where, text in texts.items():
        for found in operational_content(text):
            yield Problem(
                Level.ERROR, "operational-content", where, "a mention, no operational or personal detail", found
            )


def _concept_figures(suite: Suite, concept: Concept, lengths: Sequence[dict[Arm, int]]) -> ConceptFigures:
    texts = {arm: [s.arms[arm] for s in concept.scenarios] for arm in (Arm.CONCEPT, Arm.CONTROL, Arm.NEUTRAL)}
    pairs = list(zip(texts[Arm.CONCEPT], texts[Arm.CONTROL], strict=True))
    return ConceptFigures(
        suite=suite.id,
        concept=concept.id,
        title=concept.title,
        discovery=len(concept.in_split(Split.DISCOVERY)),
        confirmation=len(concept.in_split(Split.CONFIRMATION)),
        cues=_cued(concept),
        tokens=fmean(own[Arm.CONCEPT] for own in lengths),
        shortest=min(own[Arm.CONCEPT] for own in lengths),
        longest=max(own[Arm.CONCEPT] for own in lengths),
        widest=max(abs(own[Arm.CONTROL] - own[Arm.CONCEPT]) for own in lengths),
        overlap=fmean(bag_overlap(*pair) for pair in pairs),
        word_accuracy=word_accuracy(texts[Arm.CONCEPT], texts[Arm.CONTROL]),
        neighbour_accuracy=word_accuracy(texts[Arm.CONCEPT], texts[Arm.CONTROL], neighbours),
        order_accuracy=word_accuracy(texts[Arm.CONCEPT], texts[Arm.CONTROL], halves),
        topic_accuracy=word_accuracy(texts[Arm.CONCEPT], texts[Arm.NEUTRAL]),
        grade=reading_grade(texts[Arm.CONCEPT]) if concept.language.split("-")[0] == "en" else None,
        outcome=concept.outcome is not None,
    )


def _mix_counts(mix: Mix) -> Iterator[Problem]:
    where = f"mix {mix.id}"
    if len(mix.scenarios) < DESIGN_MIX:
        yield Problem(Level.WARNING, "scenarios", where, f"{DESIGN_MIX} scenarios", str(len(mix.scenarios)))
    confirmed = len(mix.in_split(Split.CONFIRMATION))
    if confirmed < FEWEST_CONFIRMED:
        expected = f"at least {FEWEST_CONFIRMED} scenarios for confirmation, or the mix stays exploratory"
        yield Problem(Level.WARNING, "scenarios", where, expected, str(confirmed))


def _mix_balance(mix: Mix, count_tokens: CountTokens) -> Iterator[Problem]:
    # Cells are compared within an order: a sentence may have another token more at the beginning of a prompt.
    for scenario in mix.scenarios:
        for order in Order:
            lengths = count_tokens([scenario.text(cell, order) for cell in Cell])
            if len(set(lengths)) > 1:
                counted = zip(Cell, lengths, strict=True)
                found = ", ".join(f"{cell.value}: {length}" for cell, length in counted) + " tokens"
                where = f"{scenario.id}, order {order.value}"
                yield Problem(Level.ERROR, "token-balance", where, "one length of all cells of an order", found)


def _mix_figures(suite: Suite, mix: Mix, count_tokens: CountTokens) -> MixFigures:
    return MixFigures(
        suite=suite.id,
        mix=mix.id,
        title=mix.title,
        concepts=mix.concepts,
        placebo=mix.placebo.title,
        discovery=len(mix.in_split(Split.DISCOVERY)),
        confirmation=len(mix.in_split(Split.CONFIRMATION)),
        tokens=fmean(count_tokens([s.text(Cell.BOTH, Order.A_FIRST) for s in mix.scenarios])),
    )


@dataclass(frozen=True, slots=True)
class _Placed:
    """A text with its place: only texts of one kind are compared, since the arms of a scenario are alike by design."""

    kind: str
    name: str
    group: str
    split: Split
    text: str


def _placed(suite: Suite) -> Iterator[_Placed]:
    for concept in suite.concepts:
        for scenario in concept.scenarios:
            for arm, text in scenario.arms.items():
                yield _Placed(f"arm {arm.value}", scenario.id, concept.id, scenario.split, text)
    for mix in suite.mixes:
        for mixed in mix.scenarios:
            for clause, text in mixed.clauses.items():
                kind = "clause of a concept" if clause in (Clause.A, Clause.B) else "harmless clause"
                yield _Placed(kind, f"{mixed.id}.{clause.value}", mix.id, mixed.split, text)


def _duplicates(suites: Sequence[Suite]) -> Iterator[Problem]:
    """Compare each kind of text with its own kind over all suites: no two scenarios may be paraphrases."""
    everything = [placed for suite in suites for placed in _placed(suite)]
    for kind in dict.fromkeys(placed.kind for placed in everything):
        named = {placed.name: placed for placed in everything if placed.kind == kind}
        for pair in find_alike({name: placed.text for name, placed in named.items()}, at_least=MOST_LEAKED):
            problem = _alike(pair, named[pair.first], named[pair.second])
            if problem is not None:
                yield problem


def _alike(pair: Alike, first: _Placed, second: _Placed) -> Problem | None:
    where = f"{pair.second}, {second.kind}"
    found = f"{pair.share:.0%} shared with {pair.first}"
    if pair.share >= 1:
        return Problem(Level.ERROR, "duplicate", where, "a text of its own", found)
    if pair.share > MOST_ALIKE:
        return Problem(Level.ERROR, "near-duplicate", where, f"at most {MOST_ALIKE:.0%} shared word trigrams", found)
    if pair.share > MOST_LEAKED and first.group == second.group and first.split is not second.split:
        expected = f"at most {MOST_LEAKED:.0%} shared word trigrams between discovery and confirmation"
        return Problem(Level.ERROR, "split-leakage", where, expected, found)
    return None
