"""Explain, then control: hold features down in several doses and measure the effect beside its cost.

The effect is on the concept's own questions. The cost is on the matched control prompts: what the same push does where
the concept is absent. Sets of random live features, pushed as far in the same way, show what any push of that size
does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.analysis.effects import Bootstrap
from audit.arrays import Confirmation, Densities, FloatArray
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.capture.runner import Advance
from audit.capture.steering import Answer, SteeredPrompt, Steerer
from audit.config import AuditConfig
from audit.errors import UsageError
from audit.records import Continuation, Dose, Suppression
from probes.schema import Arm, Split

# How many of the nearest live features, by largest activation, a sham is drawn from: this many for each set.
_NEIGHBOURS_PER_SET = 4


@dataclass(frozen=True, slots=True)
class SteeringSize:
    """How much of a concept is steered; more costs more.

    Args:
        scenarios: confirmation scenarios, spread evenly over them.
        sham_sets: sets of random live features.
        sham_scenarios: on how many of the scenarios, the first ones, each sham set is run.
        texts: after how many of the concept's prompts the model writes.
        shown: how many of the texts the record keeps.
    """

    scenarios: int
    sham_sets: int
    sham_scenarios: int
    texts: int
    shown: int = 3


# What a concept costs within an audit: docs/control.md. Random sets differ far more from each other than scenarios do.
WITHIN_AN_AUDIT = SteeringSize(scenarios=6, sham_sets=10, sham_scenarios=1, texts=3)
ON_DEMAND = SteeringSize(scenarios=24, sham_sets=20, sham_scenarios=4, texts=12)


@dataclass(frozen=True, slots=True)
class QuestionPair:
    """A concept's question about both arms of one scenario, and the tokens that are compared."""

    concept: TokenisedPrompt
    control: TokenisedPrompt
    tokens: OutcomeTokens


@dataclass(frozen=True, slots=True)
class SteeringPlan:
    """What is held down, how strongly, and how the numbers are made.

    Args:
        latents: the features, each once.
        live: all features of the SAE that fired in the audit, with their largest activations.
        doses: in units of the largest activation.
        new_tokens: the most that the model writes.
        seed: of the sham sets and of the bootstrap.
        resamples: of the bootstrap.
        size: how much is run.
    """

    latents: tuple[int, ...]
    live: Densities
    doses: tuple[float, ...]
    new_tokens: int
    seed: int
    resamples: int
    size: SteeringSize

    @classmethod
    def within_audit(cls, latents: Sequence[int], live: Densities, config: AuditConfig) -> SteeringPlan:
        """Return what an audit does with all causal features that a concept has in one SAE."""
        causal, analysis = config.causal, config.analysis
        return cls(
            latents=tuple(sorted(latents)),
            live=live,
            doses=causal.doses,
            new_tokens=causal.new_tokens,
            seed=analysis.seed,
            resamples=analysis.bootstrap,
            size=WITHIN_AN_AUDIT,
        )


def question_pairs(
    questions: Sequence[tuple[TokenisedPrompt, OutcomeTokens]], concept: str
) -> tuple[QuestionPair, ...]:
    """Return a concept's questions about its confirmation scenarios, concept arm beside control arm, in file order.

    Args:
        questions: outcome prompts of any concepts, as `Subject.questions` has them.
        concept: its id. One that asks no question has no pairs.
    """
    arms: dict[str, dict[Arm, tuple[TokenisedPrompt, OutcomeTokens]]] = {}
    for question, tokens in questions:
        prompt = question.prompt
        if prompt.concept == concept and prompt.split is Split.CONFIRMATION and isinstance(prompt.arm, Arm):
            arms.setdefault(prompt.scenario, {})[prompt.arm] = (question, tokens)
    return tuple(
        QuestionPair(found[Arm.CONCEPT][0], found[Arm.CONTROL][0], found[Arm.CONCEPT][1])
        for found in arms.values()
        if {Arm.CONCEPT, Arm.CONTROL} <= set(found)
    )


def measure_suppression(
    steerer: Steerer,
    pairs: Sequence[QuestionPair],
    plan: SteeringPlan,
    *,
    withheld: bool,
    advance: Advance = lambda _: None,
) -> Suppression:
    """Hold a set of features down in each dose and return what it does to a concept's answers, and what it costs.

    Args:
        steerer: model and SAE.
        pairs: of one concept, confirmation scenarios only; at least two.
        plan: what and how strongly.
        withheld: the suite's texts are kept out of records: no text is kept, nor what the model wrote after it.
        advance: called with the number of scenarios finished.

    Returns:
        `n_scenarios` are those that the set itself was run on; sham sets run on the first `sham_scenarios` of them,
        each scaled to the length of the set's own push.

    Raises:
        UsageError: there are fewer than two pairs, a feature never fired in the audit, or too few others did for sham
            sets.
        EvidenceError: a prediction is NaN or infinite.
    """
    if len(pairs) < 2:
        raise UsageError(
            item="concept",
            expected="a question about both arms of at least two confirmation scenarios",
            found=str(len(pairs)),
            hint="Give the concept an outcome, and its scenarios a control arm.",
        )
    own = _spread(pairs, plan.size.scenarios)
    maxima = _maxima(plan)
    pushes = [steerer.push(plan.latents, maxima, dose) for dose in plan.doses]
    sets = sham_sets(plan)
    sham_pushes = [
        _as_long(steerer.push(latents, _largest(plan.live, latents), dose), own_push)
        for latents in sets
        for dose, own_push in zip(plan.doses, pushes, strict=True)
    ]
    few, rest = own[: plan.size.sham_scenarios], own[plan.size.sham_scenarios :]
    # Together with the shams: the untouched model need not run again for them.
    first = _Arms.run(steerer, few, [*pushes, *sham_pushes])
    advance(len(few))
    arms = first.part(0, len(pushes)).joined(_Arms.run(steerer, rest, pushes)) if rest else first.part(0, len(pushes))
    advance(len(rest))
    shams = [first.part(start, len(pushes)) for start in range(len(pushes), len(pushes) * (1 + len(sets)), len(pushes))]
    prompts = [pair.concept for pair in own[: plan.size.texts]]
    texts = steerer.write(prompts, pushes, new_tokens=plan.new_tokens)
    bootstrap = Bootstrap.draw(len(own), resamples=plan.resamples, seed=plan.seed)
    decode = steerer.model.tokenizer.decode
    by_id = {prompt.id: prompt.prompt.text for prompt in prompts}
    doses = []
    continuations = []
    for n, dose in enumerate(plan.doses):
        values = np.stack([arms.outcome[n], arms.control_outcome[n], arms.control_kl[n], arms.control_loss[n]], axis=1)
        outcome, control_outcome, control_kl, control_loss = bootstrap.means(Confirmation(values))
        doses.append(
            Dose(
                dose=dose,
                outcome=outcome,
                control_outcome=control_outcome,
                control_kl=control_kl,
                control_loss=control_loss,
                outcome_beside=float(arms.outcome[n, : len(few)].mean()),
                n_beside=len(few),
                sham_outcomes=tuple(float(sham.outcome[n].mean()) for sham in shams),
                sham_control_kl=float(np.mean([sham.control_kl[n].mean() for sham in shams])),
                sham_control_loss=float(np.mean([sham.control_loss[n].mean() for sham in shams])),
                texts_changed=float(np.mean([text.changed[n] != text.untouched for text in texts])),
            )
        )
        continuations += [
            Continuation(by_id[text.prompt], dose, decode(text.untouched), decode(text.changed[n]))
            for text in texts[: plan.size.shown]
        ]
    return Suppression(
        concept=own[0].concept.prompt.concept,
        sae=steerer.fitted.sae.record.name,
        latents=plan.latents,
        maxima=maxima,
        n_scenarios=len(own),
        doses=tuple(doses),
        continuations=() if withheld else tuple(continuations),
    )


def sham_sets(plan: SteeringPlan) -> tuple[tuple[int, ...], ...]:
    """Return sets of random live features, as many in each as are held down, matched in largest activation.

    For each feature of the plan a partner is drawn among the live features whose largest activation is nearest in
    ratio, four for each set that is wanted; no set has one twice, none has one that is held down.

    Raises:
        UsageError: fewer other features are live than one set needs.
    """
    rng = np.random.default_rng(plan.seed)
    others = ~np.isin(plan.live.latents, plan.latents)
    latents, sizes = plan.live.latents[others], np.log(plan.live.maximum[others])
    if len(latents) < len(plan.latents):
        raise UsageError(
            item="features",
            expected=f"at least {len(plan.latents)} other features that fired in the audit, for random sets",
            found=str(len(latents)),
            hint="Suppress fewer features.",
        )
    found = []
    for _ in range(plan.size.sham_sets):
        free = np.ones(len(latents), dtype=bool)
        for largest in _maxima(plan):
            left = np.flatnonzero(free)
            nearest = left[np.argsort(np.abs(sizes[left] - np.log(largest)), kind="stable")]
            free[rng.choice(nearest[: _NEIGHBOURS_PER_SET * plan.size.sham_sets])] = False
        found.append(tuple(int(latent) for latent in latents[~free]))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Arms:
    """Changed minus untouched, (pushes, scenarios) each: outcome on the concept arm, and what the control arm pays."""

    outcome: FloatArray
    control_outcome: FloatArray
    control_kl: FloatArray
    control_loss: FloatArray

    @classmethod
    def run(cls, steerer: Steerer, pairs: Sequence[QuestionPair], pushes: Sequence[Tensor]) -> _Arms:
        concept = steerer.answer([(pair.concept, pair.tokens) for pair in pairs], pushes, loss=False)
        control = steerer.answer([(pair.control, pair.tokens) for pair in pairs], pushes, loss=True)
        return cls(
            outcome=_changes(concept, lambda answer: answer.outcome),
            control_outcome=_changes(control, lambda answer: answer.outcome),
            control_kl=_changes(control, lambda answer: answer.kl),
            control_loss=_changes(control, lambda answer: answer.loss),
        )

    def part(self, start: int, count: int) -> _Arms:
        """Return some of the pushes."""
        return _Arms(*(getattr(self, field.name)[start : start + count] for field in fields(self)))

    def joined(self, other: _Arms) -> _Arms:
        """Return the scenarios of both."""
        return _Arms(*(np.hstack([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self)))


def _changes(rows: Sequence[SteeredPrompt], value: Callable[[Answer], float]) -> FloatArray:
    """Return (pushes, prompts) changed minus untouched, in the order of the prompts' ids."""
    return np.array([[value(answer) - value(row.untouched) for answer in row.changed] for row in rows]).T


def _as_long(push: Tensor, other: Tensor) -> Tensor:
    """Return (d_out,) a push with the length of another; features of nearest size may add up or cancel otherwise."""
    scaled: Tensor = torch.nn.functional.normalize(push, dim=0) * other.norm()
    return scaled


def _spread(pairs: Sequence[QuestionPair], most: int) -> list[QuestionPair]:
    count = min(most, len(pairs))
    return [pairs[number * len(pairs) // count] for number in range(count)]


def _maxima(plan: SteeringPlan) -> tuple[float, ...]:
    silent = sorted(set(plan.latents) - set(plan.live.latents.tolist()))
    if silent:
        raise UsageError(
            item=f"feature {', '.join(map(str, silent))}",
            expected="features that fired in the audit: their largest activation is the unit of the doses",
            found="never fired",
            hint="Choose features that the report or `affidavit sql` lists.",
        )
    return _largest(plan.live, plan.latents)


def _largest(live: Densities, latents: Sequence[int]) -> tuple[float, ...]:
    place: NDArray[np.int64] = np.searchsorted(live.latents, list(latents))
    return tuple(float(value) for value in live.maximum[place])
