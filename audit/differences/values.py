"""Read from one bundle the values that rows compare: one value a scenario, and those that fix its margin.

Nothing here is chosen by the difference between two models. A feature is asked for because the discovery scenarios of
one of the bundles chose it, by the same rule as in its audit; what is then compared are confirmation scenarios, which
chose nothing, and the spread that sets the margin is that of discovery scenarios. An interaction is asked for because
the feature is confirmed for one of the two concepts on other texts than the mix's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from audit.analysis.baselines import fit_means
from audit.analysis.difference import PairedValues, stricter_spread
from audit.analysis.effects import credit
from audit.analysis.mix_measures import MEASURES, measure
from audit.arrays import Confirmation, Discovery, FloatArray, Halves, LatentScores
from audit.assessment import BASELINE_ARM
from audit.evidence.mixes import read_mix
from audit.evidence.scores import read_residuals
from audit.evidence.store import Store
from audit.evidence.versions import read_asked_outcomes, read_latent_scores
from audit.records import Contrast, Findings, MixMeasure, RowKind
from probes.schema import FEWEST_IN_SPLIT, Arm, Split

CREDITS = frozenset({RowKind.PROBE_AUROC, RowKind.FEATURE_AUROC})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one row reads from one bundle; `sae` and `latent` are the bundle's own."""

    kind: RowKind
    part: str
    contrast: Contrast | None = None
    sae: str | None = None
    latent: int | None = None
    measure: MixMeasure | None = None


@dataclass(frozen=True, slots=True)
class ScenarioValues:
    """One value a scenario.

    Args:
        scenarios: (n,) their numbers, ascending; values: (n,) what is compared.
        spread: (m,) values whose standard deviation over scenarios is what a margin is a multiple of.
        scores: (n,) of credits, the scores behind them; the values themselves otherwise.
    """

    scenarios: NDArray[np.int64]
    values: FloatArray
    spread: FloatArray
    scores: FloatArray


def read_values(store: Store, findings: Findings, wanted: Iterable[Wanted]) -> dict[Wanted, ScenarioValues]:
    """Return the values of every row that the evidence has, by what was asked.

    Args:
        store: the evidence of a bundle.
        findings: its findings.
        wanted: what is asked for; what the evidence lacks is left out.
    """
    asked = sorted(set(wanted), key=repr)
    found = dict(_features(store, [one for one in asked if one.kind in {RowKind.FEATURE, RowKind.FEATURE_AUROC}]))
    found |= dict(_probes(store, findings, [one for one in asked if one.kind is RowKind.PROBE_AUROC]))
    found |= dict(_answers(store, [one for one in asked if one.kind in {RowKind.OUTCOME, RowKind.ANSWER}]))
    found |= dict(_interactions(store, [one for one in asked if one.kind is RowKind.INTERACTION]))
    return {one: values for one, values in found.items() if len(values.scenarios) >= FEWEST_IN_SPLIT}


def pair_values(base: ScenarioValues, new: ScenarioValues, *, kind: RowKind, standardised: bool) -> PairedValues | None:
    """Return the values of the scenarios that both bundles have, or None where nothing can be compared.

    That is so with too few scenarios, with nothing but zeros on both sides, and without a scale that both share.

    Args:
        base: of the one bundle.
        new: of the other.
        kind: what is compared.
        standardised: whether each side is in its own standard deviations, as activations of different SAEs must be.
    """
    _, one, other = np.intersect1d(base.scenarios, new.scenarios, return_indices=True)
    if len(one) < FEWEST_IN_SPLIT:
        return None
    if kind in CREDITS:
        identical = bool(np.array_equal(base.scores[one], new.scores[other]))
        return PairedValues(base.values[one], new.values[other], None, credits=True, identical=identical)
    if not any(part.any() for side in (base, new) for part in (side.values, side.spread)):
        # A feature that is silent here on both models has nothing to compare.
        return None
    scale = stricter_spread(base.spread, new.spread)
    if not standardised:
        return PairedValues(base.values[one], new.values[other], scale)
    if scale is None:
        return None
    own = (float(side.spread.std(ddof=1)) for side in (base, new))
    return PairedValues(base.values[one] / next(own), new.values[other] / next(own), 1.0)


def _features(store: Store, asked: Sequence[Wanted]) -> Iterator[tuple[Wanted, ScenarioValues]]:
    for sae, contrast in dict.fromkeys((one.sae, one.contrast) for one in asked):
        own = [one for one in asked if (one.sae, one.contrast) == (sae, contrast)]
        if sae is None or contrast is None:
            continue
        latents: dict[str, set[int]] = {}
        for one in own:
            latents.setdefault(one.part, set()).add(_number(one))
        wanted = {part: sorted(numbers) for part, numbers in latents.items()}
        scores = read_latent_scores(store, sae=sae, baseline=BASELINE_ARM[contrast], wanted=wanted)
        for one in own:
            yield one, _feature(one, scores[one.part, Split.DISCOVERY], scores[one.part, Split.CONFIRMATION])


def _feature(one: Wanted, discovery: LatentScores, confirmation: LatentScores) -> ScenarioValues:
    place = int(np.searchsorted(confirmation.latents, _number(one)))
    chosen, scores = discovery.score[:, place], confirmation.score[:, place]
    if one.kind is RowKind.FEATURE:
        return ScenarioValues(confirmation.scenarios, scores, chosen, scores)
    # The direction in which the feature speaks for the concept is that of discovery.
    values = credit(scores * (1.0 if not len(chosen) or chosen.mean() >= 0 else -1.0))
    return ScenarioValues(confirmation.scenarios, values, chosen, scores)


def _probes(store: Store, findings: Findings, asked: Sequence[Wanted]) -> Iterator[tuple[Wanted, ScenarioValues]]:
    sites = {sae.record.name: sae.record.site for sae in findings.saes}
    for one in asked:
        if one.sae is None or one.contrast is None:
            continue
        read = partial(
            read_residuals,
            store,
            site=sites[one.sae],
            concept=one.part,
            arm=Arm.CONCEPT,
            baseline=BASELINE_ARM[one.contrast],
        )
        halves = Halves(Discovery(read(split=Split.DISCOVERY)), Confirmation(read(split=Split.CONFIRMATION)))
        if min(len(halves.discovery.data.mean), len(halves.confirmation.data.mean)) < FEWEST_IN_SPLIT:
            continue
        # It has nothing to tune: what moves is the model, not the choice of a penalty.
        scores = fit_means(halves).score.data
        scenarios = np.arange(len(scores), dtype=np.int64)
        yield one, ScenarioValues(scenarios, credit(scores), scores, scores)


def _answers(store: Store, asked: Sequence[Wanted]) -> Iterator[tuple[Wanted, ScenarioValues]]:
    for part in dict.fromkeys(one.part for one in asked):
        rows = read_asked_outcomes(store, concept=part)
        for one in (one for one in asked if one.part == part):
            values = rows.concept - rows.control if one.kind is RowKind.OUTCOME else rows.concept
            yield one, ScenarioValues(rows.scenarios, values, values, values)


def _interactions(store: Store, asked: Sequence[Wanted]) -> Iterator[tuple[Wanted, ScenarioValues]]:
    for part, sae in dict.fromkeys((one.part, one.sae) for one in asked):
        own = [one for one in asked if (one.part, one.sae) == (part, sae)]
        if sae is None:
            continue
        latents = np.array(sorted({_number(one) for one in own}), dtype=np.int64)
        sides = []
        for split in (Split.DISCOVERY, Split.CONFIRMATION):
            scores = read_mix(store, mix=part, sae=sae, split=split, latents=latents.tolist())
            # No row asks for the measure that needs thresholds.
            sides.append((scores.scenarios, measure(scores, latents, np.zeros(len(latents))).second))
        (_, chosen), (scenarios, values) = sides
        for one in own:
            if one.measure is None:
                continue
            place = MEASURES.index(one.measure), slice(None), int(np.searchsorted(latents, _number(one)))
            yield one, ScenarioValues(scenarios, values[place], chosen[place], values[place])


def _number(one: Wanted) -> int:
    if one.latent is None:
        raise TypeError(f"a row of kind {one.kind} names a latent")
    return one.latent
