"""Association of features with concepts: chosen on discovery, measured on confirmation, beside their controls.

The two splits meet in one place only: `Selection`, which carries names and directions of features but no effect.
Nothing that was measured on discovery can reach a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.effects import (
    Bootstrap,
    auroc_difference,
    cohens_dz,
    mean_difference,
    paired_auroc,
)
from audit.analysis.linear_probe import LinearProbe, fit_probe, measure_probes
from audit.analysis.multiplicity import benjamini_hochberg, holm
from audit.analysis.signflip import FlipResult, exact_p, flip_test, max_t_p, random_signs
from audit.arrays import ResidualDifferences, ScenarioScores
from audit.config import AnalysisConfig
from audit.records import Contrast, Estimate, Lexical, ProbeResult, RandomControl

FloatArray = NDArray[np.float64]

# A feature that follows the words alone reaches most of its effect on the cue words and little without them.
LEXICAL_CUE_SHARE = 0.8
LEXICAL_FREE_SHARE = 0.2
_MIN_LEXICAL_SCENARIOS = 8
# Random directions that set the bar even where discovery chose none: one alone would be no bar.
_MIN_COMPARED = 20


@dataclass(frozen=True, slots=True)
class CueScores:
    """Confirmation scores against neutral of the scenarios that have cue arms; all three share rows."""

    concept: ScenarioScores
    cue: ScenarioScores
    cue_free: ScenarioScores


@dataclass(frozen=True, slots=True)
class ContrastData:
    """Everything that one concept brings to one family of tests."""

    concept: str
    discovery: ScenarioScores
    confirmation: ScenarioScores
    random_discovery: ScenarioScores
    random_confirmation: ScenarioScores
    probe_discovery: ResidualDifferences
    probe_confirmation: ResidualDifferences
    cues: CueScores | None


@dataclass(frozen=True, slots=True)
class Selection:
    """What discovery hands to confirmation: features in the order of their rank, with a direction each.

    Args:
        tested: how many features passed the blind filter.
        latents: (k,) the chosen features.
        signs: (k,) +1 or -1, the direction of the difference on discovery.
        ranked: every tested feature in the order of its rank, chosen or not.
        first: the feature that ranks first whether or not it was chosen; None when nothing was tested.
        first_sign: its direction.
    """

    tested: int
    latents: NDArray[np.int64]
    signs: FloatArray
    ranked: NDArray[np.int64]
    first: int | None
    first_sign: float


@dataclass(frozen=True, slots=True)
class FeatureEffect:
    """One chosen feature, measured on confirmation."""

    latent: int
    d_z: Estimate
    auroc: Estimate
    firing_difference: Estimate
    p_value: float
    p_holm: float
    p_max_t: float
    same_sign: bool
    n_nonzero: int
    lexical: Lexical


@dataclass(frozen=True, slots=True)
class ContrastEffects:
    """One concept's results in one family, before the ladder is applied.

    `family` is the number of tests that Holm corrects for.
    """

    concept: str
    n_discovery: int
    n_confirmation: int
    family: int
    selection: Selection
    features: tuple[FeatureEffect, ...]
    probe: ProbeResult
    random_control: RandomControl
    best_auroc: Estimate | None
    sae_minus_probe_auroc: Estimate | None


@dataclass(frozen=True, slots=True)
class FamilyEffects:
    """One family of tests: every concept under one contrast.

    Args:
        permuted_selections: (permutations,) whether discovery chose anything under permuted arm labels.
        permuted_hits: (permutations,) whether confirmation let any of it through.
    """

    contrast: Contrast
    concepts: tuple[ContrastEffects, ...]
    permuted_selections: NDArray[np.bool_]
    permuted_hits: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Discovery:
    live: NDArray[np.int64]
    result: FlipResult


def analyse_family(contrast: Contrast, data: Sequence[ContrastData], config: AnalysisConfig) -> FamilyEffects:
    """Run discovery, confirmation, baselines and controls for one contrast over all concepts.

    Benjamini-Hochberg runs over every live feature x concept test of this contrast, Holm over everything that it
    selects: each contrast is a family of its own, so that the many features of a topic cannot loosen the limit for a
    distinction.

    Args:
        contrast: the family.
        data: one entry a concept.
        config: thresholds, seeds and counts.
    """
    seeds = np.random.SeedSequence([config.seed, list(Contrast).index(contrast)]).spawn(5)
    trained, permuted = _select([d.discovery for d in data], config, seeds[0], permutations=config.permutations)
    random, _ = _select([d.random_discovery for d in data], config, seeds[1], permutations=0)
    confirmed = _confirm([d.confirmation for d in data], trained, config, seeds[2])
    random_confirmed = _confirm([d.random_confirmation for d in data], random, config, seeds[3])
    fitted = [fit_probe(item.probe_discovery, item.probe_confirmation) for item in data]
    probes = measure_probes(fitted, config)
    concepts = []
    for item, selection, p, random_selection, random_p, linear, probe in zip(
        data, trained, confirmed, random, random_confirmed, fitted, probes, strict=True
    ):
        bootstrap = Bootstrap.draw(len(item.confirmation.scenarios), resamples=config.bootstrap, seed=config.seed)
        best, difference = _best_against_probe(item, selection, linear, bootstrap)
        concepts.append(
            ContrastEffects(
                concept=item.concept,
                n_discovery=len(item.discovery.scenarios),
                n_confirmation=len(item.confirmation.scenarios),
                family=sum(len(s.latents) for s in trained),
                selection=selection,
                features=_measure(item, selection, p, bootstrap, config),
                probe=probe,
                random_control=_random_control(item, random_selection, random_p, config, like=selection),
                best_auroc=best,
                sae_minus_probe_auroc=difference,
            )
        )
    hits = _permuted_hits([d.confirmation for d in data], permuted, config, seeds[4])
    chosen = np.array([any(len(item.latents) for item in row) for row in permuted], dtype=np.bool_)
    return FamilyEffects(contrast, tuple(concepts), chosen, hits)


def columns(scores: ScenarioScores, latents: NDArray[np.int64]) -> FloatArray:
    """Return (n, k) scores of the given latents; a latent that never fired there scores 0."""
    return _pick(scores.score, scores.latents, latents)


def lexical_verdict(cues: CueScores | None, latent: int, sign: float, *, resamples: int, seed: int) -> Lexical:
    """Tell whether a feature follows the cue words: as strong on `cue` as on `concept`, absent on `cue_free`.

    `not lexical` needs more than a failed condition: one of the two must fail beyond a 95% bootstrap interval over
    scenarios. A feature that fires less on the concept than on neutral text has no cue to follow and is not tested.
    """
    if cues is None or sign < 0 or len(cues.cue.scenarios) < _MIN_LEXICAL_SCENARIOS:
        return Lexical.NOT_TESTED
    concept, cue, free = (columns(s, np.array([latent]))[:, 0] for s in (cues.concept, cues.cue, cues.cue_free))
    if concept.mean() <= 0:
        return Lexical.NOT_TESTED
    lacking = LEXICAL_CUE_SHARE * concept - cue
    beyond = free - LEXICAL_FREE_SHARE * concept
    if lacking.mean() <= 0 and beyond.mean() <= 0:
        return Lexical.LEXICAL
    picks = Bootstrap.draw(len(concept), resamples=resamples, seed=seed).picks
    clear = any(np.quantile(part[picks].mean(axis=1), 0.025) > 0 for part in (lacking, beyond))
    return Lexical.NOT_LEXICAL if clear else Lexical.UNDECIDED


def _select(
    scores: Sequence[ScenarioScores], config: AnalysisConfig, seed: np.random.SeedSequence, *, permutations: int
) -> tuple[list[Selection], list[list[_Permuted]]]:
    # Blind to labels: how often a feature fires in either arm says nothing about which arm.
    lives = [np.flatnonzero(item.fired >= config.min_firing_scenarios) for item in scores]
    found = []
    for item, live, child in zip(scores, lives, seed.spawn(len(scores)), strict=True):
        relabellings = random_signs(np.random.default_rng(child), permutations, len(item.scenarios))
        found.append(_Discovery(live, flip_test(item.score[:, live], relabellings=relabellings)))
    chosen = _split_like(benjamini_hochberg(np.concatenate([d.result.p for d in found])) <= config.fdr_q, found)
    selections = [_rank(item, d, mask) for item, d, mask in zip(scores, found, chosen, strict=True)]
    permuted = []
    for row in range(permutations):
        rejected = benjamini_hochberg(np.concatenate([d.result.p_permuted[row] for d in found])) <= config.fdr_q
        masks = _split_like(rejected, found)
        permuted.append([_Permuted(s.latents[d.live[m]]) for s, d, m in zip(scores, found, masks, strict=True)])
    return selections, permuted


@dataclass(frozen=True, slots=True)
class _Permuted:
    latents: NDArray[np.int64]


def _split_like(mask: NDArray[np.bool_], found: Sequence[_Discovery]) -> list[NDArray[np.bool_]]:
    return np.split(mask, np.cumsum([len(d.live) for d in found])[:-1])


def _rank(scores: ScenarioScores, found: _Discovery, chosen: NDArray[np.bool_]) -> Selection:
    # By |t|, not by p: exact p-values reach lower than Monte Carlo ones, which would put rare features first.
    order = np.lexsort((scores.latents[found.live], -np.abs(found.result.t)))
    picked = order[chosen[order]]
    signs = np.sign(found.result.t)
    return Selection(
        tested=len(found.live),
        latents=scores.latents[found.live[picked]],
        signs=signs[picked],
        ranked=scores.latents[found.live[order]],
        first=int(scores.latents[found.live[order[0]]]) if len(order) else None,
        first_sign=float(signs[order[0]]) if len(order) else 1.0,
    )


@dataclass(frozen=True, slots=True)
class _Confirmed:
    p: FloatArray
    p_holm: FloatArray
    p_max_t: FloatArray
    same_sign: NDArray[np.bool_]
    nonzero: NDArray[np.int64]


def _confirm(
    scores: Sequence[ScenarioScores],
    selections: Sequence[Selection],
    config: AnalysisConfig,
    seed: np.random.SeedSequence,
) -> list[_Confirmed]:
    values = [columns(item, selection.latents) for item, selection in zip(scores, selections, strict=True)]
    p = [np.array([exact_p(column) for column in part.T]) for part in values]
    adjusted = np.split(holm(np.concatenate(p)), np.cumsum([len(part) for part in p])[:-1])
    return [
        _Confirmed(
            p=own,
            p_holm=own_holm,
            p_max_t=max_t_p(part, flips=config.flips, rng=np.random.default_rng(child)),
            same_sign=np.sign(part.sum(axis=0)) == selection.signs,
            nonzero=(np.abs(part) > 0).sum(axis=0),
        )
        for own, own_holm, part, selection, child in zip(
            p, adjusted, values, selections, seed.spawn(len(scores)), strict=True
        )
    ]


def _measure(
    data: ContrastData, selection: Selection, confirmed: _Confirmed, bootstrap: Bootstrap, config: AnalysisConfig
) -> tuple[FeatureEffect, ...]:
    score = columns(data.confirmation, selection.latents)
    firing = _pick(data.confirmation.firing, data.confirmation.latents, selection.latents)
    return tuple(
        FeatureEffect(
            latent=int(latent),
            d_z=bootstrap.estimate(score[:, n], cohens_dz),
            auroc=bootstrap.estimate(score[:, n], paired_auroc),
            firing_difference=bootstrap.estimate(firing[:, n], mean_difference),
            p_value=float(confirmed.p[n]),
            p_holm=float(confirmed.p_holm[n]),
            p_max_t=float(confirmed.p_max_t[n]),
            same_sign=bool(confirmed.same_sign[n]),
            n_nonzero=int(confirmed.nonzero[n]),
            lexical=lexical_verdict(
                data.cues, int(latent), float(selection.signs[n]), resamples=config.bootstrap, seed=config.seed
            ),
        )
        for n, latent in enumerate(selection.latents)
    )


def _random_control(
    data: ContrastData, selection: Selection, confirmed: _Confirmed, config: AnalysisConfig, *, like: Selection
) -> RandomControl:
    compared = selection.ranked[: max(_MIN_COMPARED, len(selection.latents), len(like.latents))]
    score = columns(data.random_confirmation, compared)
    effects, aurocs = np.abs(cohens_dz(score.T)), paired_auroc(score.T)
    passed = (confirmed.p_holm <= config.alpha) & confirmed.same_sign
    return RandomControl(
        tested=selection.tested,
        selected=len(selection.latents),
        confirmed=int(passed.sum()),
        compared=len(compared),
        best_d_z=float(effects.max()) if len(compared) else None,
        best_auroc=float(np.maximum(aurocs, 1 - aurocs).max()) if len(compared) else None,
    )


def _best_against_probe(
    data: ContrastData, selection: Selection, probe: LinearProbe, bootstrap: Bootstrap
) -> tuple[Estimate | None, Estimate | None]:
    if selection.first is None:
        return None, None
    feature = selection.first_sign * columns(data.confirmation, np.array([selection.first]))[:, 0]
    best = bootstrap.estimate(feature, paired_auroc)
    return best, bootstrap.estimate(np.stack([feature, probe.score], axis=1), auroc_difference)


def _permuted_hits(
    scores: Sequence[ScenarioScores],
    permuted: Sequence[Sequence[_Permuted]],
    config: AnalysisConfig,
    seed: np.random.SeedSequence,
) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    hits = np.zeros(len(permuted), dtype=np.bool_)
    for row, selections in enumerate(permuted):
        p = []
        for item, selection in zip(scores, selections, strict=True):
            values = columns(item, selection.latents)
            signs = rng.choice((-1.0, 1.0), size=len(item.scenarios))
            p += [exact_p(signs * column) for column in values.T]
        hits[row] = bool((holm(np.array(p)) <= config.alpha).any()) if p else False
    return hits


def _pick(matrix: FloatArray, known: NDArray[np.int64], wanted: NDArray[np.int64]) -> FloatArray:
    picked = np.zeros((matrix.shape[0], len(wanted)))
    if len(known) == 0 or len(wanted) == 0:
        return picked
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    present = known[place] == wanted
    picked[:, present] = matrix[:, place[present]]
    return picked
