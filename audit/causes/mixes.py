"""The questions about one mix: both clauses, and each alone for the levels that features are lowered to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.capture.interventions import Delta, Held, Responses, combined, hold_together
from audit.capture.prompts import OutcomeTokens, Prompt, TokenisedPrompt, tokenise
from audit.causes.benches import Bench
from audit.causes.levels import Levels
from audit.gathering import Subject
from audit.records import ConceptResult, Rung
from probes.schema import Cell, Mix, Split

# The strongest features of each concept that are paired.
_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class AskedScenario:
    """One concept's question about one scenario of a mix, in the cells with both clauses and with each alone."""

    scenario: str
    split: Split
    asked: str
    tokens: OutcomeTokens
    cells: Mapping[Cell, TokenisedPrompt]


@dataclass(frozen=True, slots=True)
class MixQuestions:
    """What can be asked about a mix; scenarios whose cells differ in length are left out, `uneven` of them."""

    scenarios: tuple[AskedScenario, ...]
    uneven: int

    def of(self, split: Split, asked: str) -> tuple[AskedScenario, ...]:
        """Return one concept's questions on one split, in the order of the suite."""
        return tuple(one for one in self.scenarios if one.split is split and one.asked == asked)


@dataclass(frozen=True, slots=True)
class PairCase:
    """A question about both clauses, held, with the levels of features where one clause is missing.

    Args:
        without_first: latent -> its level in cell 01; a feature of the first concept is lowered to it.
        without_second: the same of cell 10, for features of the second.
    """

    scenario: str
    asked: str
    held: Held
    without_first: Mapping[int, float]
    without_second: Mapping[int, float]

    def first(self, latent: int) -> Delta:
        """Return what lowers a feature to its level without the first concept."""
        return self.held.lowering(latent, self.without_first.get(latent, 0.0))

    def second(self, latent: int) -> Delta:
        """Return what lowers a feature to its level without the second concept."""
        return self.held.lowering(latent, self.without_second.get(latent, 0.0))


@dataclass(frozen=True, slots=True)
class Combination:
    """Two features, and the concept whose question is asked.

    Args:
        rank: orders them where no estimate may.
        confirmed: whether both are confirmed, each for its concept, beyond the controls.
    """

    asked: str
    first: int
    second: int
    rank: int
    confirmed: bool


@dataclass(frozen=True, slots=True)
class PairAnswers:
    """Outcomes of one case under the interventions on a pair, in nats, with the KL of each from the untouched."""

    y11: float
    y01: float
    y10: float
    y00: float
    kl: tuple[float, float, float]
    changed: tuple[bool, bool]

    @property
    def interaction(self) -> float:
        """Return y11 - y10 - y01 + y00."""
        return self.y11 - self.y10 - self.y01 + self.y00


def ask_mix(subject: Subject, mix: Mix, prompts: Sequence[Prompt], tokens: Mapping[str, OutcomeTokens]) -> MixQuestions:
    """Tokenise a mix's questions.

    Args:
        subject: the audited model.
        mix: which.
        prompts: of `list_mix_questions`.
        tokens: concept -> the continuations of its outcome.
    """
    cells: dict[tuple[str, str], dict[Cell, TokenisedPrompt]] = {}
    for prompt in prompts:
        if prompt.concept == mix.id and prompt.asked is not None and isinstance(prompt.arm, Cell):
            own = cells.setdefault((prompt.scenario, prompt.asked), {})
            own[prompt.arm] = tokenise(subject.model, prompt, subject.prompt_format)
    uneven = {scenario for (scenario, _), own in cells.items() if len({len(one.ids) for one in own.values()}) > 1}
    return MixQuestions(
        tuple(
            AskedScenario(scenario, own[Cell.BOTH].prompt.split, asked, tokens[asked], own)
            for (scenario, asked), own in cells.items()
            if scenario not in uneven
        ),
        len(uneven),
    )


def combinations(
    mix: Mix, results: Mapping[str, ConceptResult], sae: str, *, asked: Sequence[str], alpha: float
) -> tuple[Combination, ...]:
    """Return every pair of strong features of the two concepts with every question, strongest ranks first."""
    first, second = (_strongest(results[concept], sae, alpha) if concept in results else {} for concept in mix.concepts)
    found: dict[tuple[frozenset[int], str], Combination] = {}
    for rank_first, (one, sure) in enumerate(first.items()):
        for rank_second, (other, also) in enumerate(second.items()):
            for question in asked:
                if one != other:
                    new = Combination(question, one, other, rank_first + rank_second, sure and also)
                    found.setdefault((frozenset((one, other)), question), new)
    return tuple(sorted(found.values(), key=lambda c: c.rank))


def _strongest(result: ConceptResult, sae: str, alpha: float) -> dict[int, bool]:
    """Return the features that pass their test, by rank on discovery, and whether each is confirmed.

    Of claims that are capped none is taken.
    """
    ranked = sorted(
        (rank, order, finding.latent, finding.rung.height >= Rung.CONFIRMED.height)
        for order, contrast in enumerate(c for c in result.contrasts if c.sae == sae)
        for rank, finding in enumerate(contrast.findings)
        if finding.p_holm <= alpha and finding.rung.height >= Rung.ASSOCIATED.height
    )
    found: dict[int, bool] = {}
    for _, _, latent, sure in ranked:
        found[latent] = found.get(latent, False) or sure
    return dict(list(found.items())[:_CANDIDATES])


def hold_cases(
    benches: Sequence[Bench], questions: Sequence[AskedScenario], levels: Levels
) -> tuple[tuple[PairCase, ...], ...]:
    """Run the questions about both clauses once and return for each bench what interventions on them need."""
    every = hold_together(
        [bench.engine for bench in benches], [(one.cells[Cell.BOTH], one.tokens) for one in questions]
    )
    return tuple(
        tuple(
            PairCase(
                one.scenario,
                one.asked,
                item,
                without_first=levels[bench.name, one.cells[Cell.SECOND].id],
                without_second=levels[bench.name, one.cells[Cell.FIRST].id],
            )
            for one, item in zip(questions, held, strict=True)
        )
        for bench, held in zip(benches, every, strict=True)
    )


def run_pairs(
    bench: Bench, cases: Sequence[PairCase], pairs: Sequence[tuple[int, int]]
) -> tuple[tuple[PairAnswers, ...], ...]:
    """Return the exact answers of each case to the interventions on each pair; what is shared runs once."""
    every = [_Lowered(case, pairs) for case in cases]
    responses = bench.engine.run_all([(one.case.held, one.deltas) for one in every])
    return tuple(one.answers(found) for one, found in zip(every, responses, strict=True))


class _Lowered:
    """What lowers the features of some pairs in one case, each alone and both together."""

    def __init__(self, case: PairCase, pairs: Sequence[tuple[int, int]]) -> None:
        self.case = case
        self._pairs = pairs
        self._first = {one: case.first(one) for one, _ in pairs}
        self._second = {other: case.second(other) for _, other in pairs}
        self._both = {
            (one, other): combined((self._first[one], self._second[other]))
            for one, other in pairs
            if not self._first[one].empty and not self._second[other].empty
        }

    @property
    def deltas(self) -> list[Delta]:
        """Return every change to run."""
        return [*self._first.values(), *self._second.values(), *self._both.values()]

    def answers(self, responses: Responses) -> tuple[PairAnswers, ...]:
        """Return what the answers to all changes say of each pair."""
        found = iter(zip(responses.outcome.tolist(), responses.kl.tolist(), strict=True))
        first, second, both = ({key: next(found) for key in own} for own in (self._first, self._second, self._both))
        answers = []
        for one, other in self._pairs:
            changed = not self._first[one].empty, not self._second[other].empty
            # With nothing to lower in one of them, both together are the other alone.
            together = both.get((one, other), first[one] if changed[0] else second[other])
            answers.append(
                PairAnswers(
                    y11=self.case.held.outcome,
                    y01=first[one][0],
                    y10=second[other][0],
                    y00=together[0],
                    kl=(first[one][1], second[other][1], together[1]),
                    changed=changed,
                )
            )
        return tuple(answers)
