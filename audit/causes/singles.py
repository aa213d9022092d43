"""One feature at a time: each confirmed feature is lowered to its level in the matched arm, and the model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.causal import FeatureRuns
from audit.analysis.shams import spread
from audit.arrays import Confirmation
from audit.capture.interventions import Delta, Held, Responses, hold_together
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.causes.benches import Bench, Ledger
from audit.causes.levels import REFERENCE, reference_questions
from audit.causes.work import Work
from audit.records import ConceptResult, Finding, Rung
from probes.schema import Arm, Concept, Split

FloatArray = NDArray[np.float64]

ZERO = "zero"


@dataclass(frozen=True, slots=True)
class Single:
    """Exact runs on one confirmed feature.

    Args:
        places: of the scenarios on which shams run, among all: of those in which there was anything to lower.
        asked: the questions about these, which are held again when their shams run: all at once would take half a
            gigabyte in a full audit.
        ceilings: of each, what the feature was lowered to.
        falls: (n, downstream latents) fall of the maximum of each confirmed feature of the later SAE, on all scenarios.
    """

    runs: FeatureRuns
    places: tuple[int, ...]
    asked: tuple[tuple[TokenisedPrompt, OutcomeTokens], ...]
    ceilings: tuple[float, ...]
    falls: FloatArray


@dataclass(frozen=True, slots=True)
class ConceptSingles:
    """Exact runs on the confirmed features of one concept through one SAE.

    Args:
        error: (n,) outcome untouched minus the one without the SAE's error, in nats.
        downstream: the confirmed features of the concept in the later SAE.
    """

    concept: str
    bench: Bench
    singles: tuple[Single, ...]
    error: Confirmation[FloatArray]
    downstream: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    scenario: str
    held: Held
    levels: Mapping[Arm, Mapping[int, float]]


def confirmed(result: ConceptResult, sae: str) -> tuple[Finding, ...]:
    """Return the confirmed findings of a concept through an SAE, both contrasts, each by rank."""
    contrasts = [contrast for contrast in result.contrasts if contrast.sae == sae]
    return tuple(f for contrast in contrasts for f in contrast.findings if f.rung is Rung.CONFIRMED)


def measure_concept(work: Work, concept: Concept, result: ConceptResult) -> tuple[ConceptSingles, ...]:
    """Lower every confirmed feature of a concept that asks a question, on each held-out scenario, and ask.

    Args:
        work: an SAE without a confirmed feature gives nothing.
        concept: what is asked.
        result: the findings.
    """
    findings = {bench.name: confirmed(result, bench.name) for bench in work.benches}
    arms = dict.fromkeys(REFERENCE[f.contrast] for own in findings.values() for f in own)
    references = reference_questions(work.subject, concept, arms, first_id=work.first_id)
    levels = work.reader.read(tuple(references.values()))
    asked = [
        question
        for question in work.subject.questions
        if question[0].prompt.concept == concept.id
        and question[0].prompt.arm is Arm.CONCEPT
        and question[0].prompt.split is Split.CONFIRMATION
    ]
    found = []
    benches = [bench for bench in work.benches if findings[bench.name]]
    for bench, every in zip(benches, hold_together([bench.engine for bench in benches], asked), strict=True):
        cases = [
            _Case(
                held.prompt.prompt.scenario,
                held,
                {
                    arm: levels[bench.name, references[held.prompt.prompt.scenario, arm].id]
                    for arm in arms
                    if (held.prompt.prompt.scenario, arm) in references
                },
            )
            for held in every
        ]
        later = bench.later
        behind = () if later is None else confirmed(result, later.sae.record.name)
        downstream = tuple(dict.fromkeys(f.latent for f in behind))
        found.append(_measure(bench, findings[bench.name], cases, downstream=downstream, work=work))
    return tuple(found)


def _measure(
    bench: Bench, findings: Sequence[Finding], cases: Sequence[_Case], *, downstream: tuple[int, ...], work: Work
) -> ConceptSingles:
    concept = findings[0].concept
    trials = [_Trial(finding, bench, downstream, work.ledger) for finding in findings]
    errors = []
    wanted: list[dict[tuple[int, float] | None, Delta]] = []
    for case in cases:
        # Two contrasts may lower one feature to one level, and a level may be zero: that is one run.
        deltas: dict[tuple[int, float] | None, Delta] = {None: case.held.removing_error()}
        for trial in trials:
            for key in trial.keys(case):
                deltas.setdefault(key, case.held.lowering(*key))
        wanted.append(deltas)
    every = bench.engine.run_all([(case.held, list(own.values())) for case, own in zip(cases, wanted, strict=True)])
    for case, own, responses in zip(cases, wanted, every, strict=True):
        runs = {key: _Run(delta, responses, number) for number, (key, delta) in enumerate(own.items())}
        errors.append(case.held.outcome - runs[None].outcome)
        work.ledger.intervention.append(_row(concept, bench, case, runs[None], kind="error", reference="error"))
        for trial in trials:
            trial.take(case, runs)
    return ConceptSingles(
        concept,
        bench,
        tuple(trial.single(sham_scenarios=work.config.causal.sham_scenarios) for trial in trials),
        Confirmation(np.array(errors)),
        downstream,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    delta: Delta
    responses: Responses
    number: int

    @property
    def outcome(self) -> float:
        return float(self.responses.outcome[self.number])

    @property
    def kl(self) -> float:
        return float(self.responses.kl[self.number])

    def maxima(self, latents: Sequence[int]) -> FloatArray:
        if self.responses.downstream is None:
            return np.zeros(0)
        return self.responses.downstream[self.number, list(latents)].astype(np.float64)


class _Trial:
    """Collects the runs on one feature, scenario after scenario."""

    def __init__(self, finding: Finding, bench: Bench, downstream: tuple[int, ...], ledger: Ledger) -> None:
        self._finding = finding
        self._bench = bench
        self._arm = REFERENCE[finding.contrast]
        self._downstream = downstream
        self._ledger = ledger
        self._asked: list[tuple[TokenisedPrompt, OutcomeTokens]] = []
        self._ceilings: list[float] = []
        self._changed: list[bool] = []
        self._effects: list[tuple[float, float, float]] = []
        self._falls: list[FloatArray] = []

    def keys(self, case: _Case) -> tuple[tuple[int, float], ...]:
        """Return the latent with its ceilings, the matched arm's and zero; none where the scenario lacks the arm."""
        level = case.levels.get(self._arm)
        return () if level is None else ((self._finding.latent, level.get(self._finding.latent, 0.0)), self._zero)

    @property
    def _zero(self) -> tuple[int, float]:
        return self._finding.latent, 0.0

    def take(self, case: _Case, runs: Mapping[tuple[int, float] | None, _Run]) -> None:
        keys = self.keys(case)
        if not keys:
            return
        lowered, zero = (runs[key] for key in keys)
        self._asked.append((case.held.prompt, case.held.tokens))
        self._ceilings.append(keys[0][1])
        self._changed.append(not lowered.delta.empty)
        untouched = case.held.outcome
        self._effects.append((untouched - lowered.outcome, untouched - zero.outcome, lowered.kl))
        for key, run, reference in zip(keys, (lowered, zero), (self._arm.value, ZERO), strict=True):
            self._ledger.intervention.append(
                _row(self._finding.concept, self._bench, case, run, kind="feature", reference=reference, key=key)
            )
        self._fall(case, lowered)

    def _fall(self, case: _Case, lowered: _Run) -> None:
        later, before = self._bench.later, case.held.downstream
        if later is None or before is None:
            self._falls.append(np.zeros(0))
            return
        untouched = before[list(self._downstream)].astype(np.float64)
        changed = lowered.maxima(self._downstream)
        self._falls.append(untouched - changed)
        self._ledger.downstream.extend(
            {
                "concept": self._finding.concept,
                "scenario": case.scenario,
                "sae": self._bench.name,
                "latent": self._finding.latent,
                "reference": self._arm.value,
                "downstream_sae": later.sae.record.name,
                "downstream_latent": latent,
                "untouched": one,
                "changed": other,
            }
            for latent, one, other in zip(self._downstream, untouched.tolist(), changed.tolist(), strict=True)
        )

    def single(self, *, sham_scenarios: int) -> Single:
        places = spread([n for n, changed in enumerate(self._changed) if changed], sham_scenarios)
        effect, zero, kl = np.array(self._effects).reshape(-1, 3).T
        return Single(
            FeatureRuns(
                self._finding,
                self._arm.value,
                Confirmation(effect),
                Confirmation(zero),
                Confirmation(kl),
                sum(self._changed),
            ),
            places,
            tuple(self._asked[n] for n in places),
            tuple(self._ceilings[n] for n in places),
            np.array(self._falls).reshape(len(self._falls), -1),
        )


def _row(
    concept: str,
    bench: Bench,
    case: _Case,
    run: _Run,
    *,
    kind: str,
    reference: str,
    key: tuple[int, float] | None = None,
) -> dict[str, object]:
    return {
        "part": concept,
        "scenario": case.scenario,
        "asked": concept,
        "sae": bench.name,
        "kind": kind,
        "reference": reference,
        "first": None if key is None else key[0],
        "second": None,
        "first_ceiling": None if key is None else key[1],
        "second_ceiling": None,
        "changed": not run.delta.empty,
        "untouched": case.held.outcome,
        "outcome": run.outcome,
        "kl": run.kl,
    }
