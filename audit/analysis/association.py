"""Association of features with concepts, beside baselines and controls, one family of tests at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from audit.analysis.baselines import FittedBaseline, fit_baselines, linear_probe, measure_baselines
from audit.analysis.contrast_data import ContrastData
from audit.analysis.effects import Bootstrap, cohens_dz, paired_auroc
from audit.analysis.feature_sets import FittedSet, fit_sets, measure_sets
from audit.analysis.lexical import lexical_verdict
from audit.analysis.power import detectable_effect
from audit.analysis.two_steps import Selection, Tested, confirm, relabelled_hits, select
from audit.arrays import Confirmation
from audit.config import AnalysisConfig
from audit.records import (
    Baseline,
    BaselineKind,
    Contrast,
    ControlKind,
    ControlResult,
    Estimate,
    FeatureSet,
    Lexical,
    Power,
)

FloatArray = NDArray[np.float64]

# Control latents that set the bar even where discovery chose none: one alone would be no bar.
MIN_COMPARED = 20


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
    selected_by: bool
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
    probe_kind: BaselineKind
    baselines: tuple[Baseline, ...]
    controls: tuple[ControlResult, ...]
    best_auroc: Estimate | None
    feature_sets: tuple[FeatureSet, ...]
    power: Power


@dataclass(frozen=True, slots=True)
class FamilyEffects:
    """One family of tests: every concept under one contrast.

    Args:
        permuted_selections: (permutations,) whether discovery chose anything under permuted arm labels.
        permuted_hits: (permutations, concepts) whether confirmation let any of a concept's features through.
    """

    contrast: Contrast
    concepts: tuple[ContrastEffects, ...]
    permuted_selections: NDArray[np.bool_]
    permuted_hits: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Fitted:
    """What discovery made of one concept, to be measured together."""

    selection: Selection
    tested: Tested
    baselines: tuple[FittedBaseline, ...]
    sets: tuple[FittedSet, ...]
    first: Confirmation[FloatArray] | None

    @property
    def largest(self) -> Confirmation[FloatArray] | None:
        return self.sets[-1].score if self.sets else None


def analyse_family(contrast: Contrast, data: Sequence[ContrastData], config: AnalysisConfig) -> FamilyEffects:
    """Run discovery, confirmation, baselines and controls for one contrast over all concepts.

    Benjamini-Hochberg runs over every live feature x concept test of this contrast, Holm over everything that it
    selects: each contrast is a family of its own, so that the many features of a topic cannot loosen the limit for a
    distinction.

    Args:
        contrast: the family.
        data: one entry a concept, none of them untestable (`why_untestable`), all with the same controls.
        config: thresholds, seeds and counts.
    """
    if not data:
        none = np.zeros(config.permutations, dtype=np.bool_)
        return FamilyEffects(contrast, (), permuted_selections=none, permuted_hits=none[:, None][:, :0])
    seeds = np.random.SeedSequence([config.seed, list(Contrast).index(contrast)]).spawn(3 + len(data[0].controls))
    chosen = select([d.scores.discovery for d in data], config, seeds[0], permutations=config.permutations)
    tested = confirm([d.scores.confirmation for d in data], chosen.concepts, config, seeds[1])
    controls = _controls(data, chosen.concepts, config, dict(zip(data[0].controls, seeds[3:], strict=True)))
    fitted = [_fit(item, selection, own) for item, selection, own in zip(data, chosen.concepts, tested, strict=True)]
    baselines = measure_baselines(
        [one.baselines for one in fitted], [(one.first, one.largest) for one in fitted], config
    )
    concepts = tuple(
        _measure(item, one, baselines=own, controls=beside, family=chosen.total, config=config)
        for item, one, own, beside in zip(data, fitted, baselines, controls, strict=True)
    )
    return FamilyEffects(
        contrast,
        concepts,
        permuted_selections=np.array([any(map(len, row)) for row in chosen.relabelled], dtype=np.bool_),
        permuted_hits=relabelled_hits([d.scores.confirmation for d in data], chosen.relabelled, config, seeds[2]),
    )


def _fit(data: ContrastData, selection: Selection, tested: Tested) -> _Fitted:
    first = None
    if len(selection.ranked):
        first = Confirmation(selection.first_sign * data.scores.confirmation.data.columns(selection.ranked[:1])[:, 0])
    return _Fitted(
        selection=selection,
        tested=tested,
        baselines=fit_baselines(data.residuals, neurons=data.neurons, words=data.words),
        sets=fit_sets(data.scores, selection.ranked),
        first=first,
    )


def _measure(
    data: ContrastData,
    fitted: _Fitted,
    *,
    baselines: tuple[Baseline, ...],
    controls: tuple[ControlResult, ...],
    family: int,
    config: AnalysisConfig,
) -> ContrastEffects:
    n_discovery, n_confirmation = (
        len(part.data.scenarios) for part in (data.scores.discovery, data.scores.confirmation)
    )
    bootstrap = Bootstrap.draw(n_confirmation, resamples=config.bootstrap, seed=config.seed)
    detectable = partial(
        detectable_effect,
        n_discovery=n_discovery,
        n_confirmation=n_confirmation,
        p_discovery=fitted.selection.p_limit,
        # Holm asks most of its first test; a feature more is one test more.
        p_confirmation=config.alpha / (family + 1),
    )
    bar = max((control.best_d_z or 0.0 for control in controls), default=0.0)
    return ContrastEffects(
        concept=data.concept,
        n_discovery=n_discovery,
        n_confirmation=n_confirmation,
        family=family,
        selection=fitted.selection,
        features=_features(data, fitted, bootstrap, config),
        probe_kind=linear_probe(fitted.baselines),
        baselines=baselines,
        controls=controls,
        best_auroc=bootstrap.aurocs(Confirmation(fitted.first.data[:, None]))[0] if fitted.first is not None else None,
        feature_sets=measure_sets(fitted.sets, bootstrap),
        power=Power(detectable(), detectable(bar=bar)),
    )


def _features(
    data: ContrastData, fitted: _Fitted, bootstrap: Bootstrap, config: AnalysisConfig
) -> tuple[FeatureEffect, ...]:
    selection, tested, scores = fitted.selection, fitted.tested, data.scores.confirmation.data
    values = Confirmation(scores.columns(selection.latents))
    firing = Confirmation(scores.firing_columns(selection.latents))
    cued = None
    if data.cues is not None and len(data.cues.cue.scenarios):
        cued = Bootstrap.draw(len(data.cues.cue.scenarios), resamples=config.bootstrap, seed=config.seed)
    estimates = zip(bootstrap.effects(values), bootstrap.aurocs(values), bootstrap.means(firing), strict=True)
    return tuple(
        FeatureEffect(
            latent=int(selection.latents[n]),
            d_z=d_z,
            auroc=auroc,
            firing_difference=difference,
            p_value=float(tested.p[n]),
            p_holm=float(tested.p_holm[n]),
            p_max_t=float(tested.p_max_t[n]),
            selected_by=bool(selection.by[n]),
            same_sign=bool(tested.same_sign[n]),
            n_nonzero=int(tested.nonzero[n]),
            lexical=lexical_verdict(data.cues, int(selection.latents[n]), float(selection.signs[n]), cued),
        )
        for n, (d_z, auroc, difference) in enumerate(estimates)
    )


def _controls(
    data: Sequence[ContrastData],
    trained: Sequence[Selection],
    config: AnalysisConfig,
    seeds: Mapping[ControlKind, np.random.SeedSequence],
) -> list[tuple[ControlResult, ...]]:
    """Return for each concept how far the same two steps get through each control."""
    results: list[list[ControlResult]] = [[] for _ in data]
    for kind, seed in seeds.items():
        halves = [item.controls[kind] for item in data]
        first, second = seed.spawn(2)
        chosen = select([half.discovery for half in halves], config, first).concepts
        tested = confirm([half.confirmation for half in halves], chosen, config, second)
        for n, half in enumerate(halves):
            compared = chosen[n].ranked[: max(MIN_COMPARED, len(chosen[n].latents), len(trained[n].latents))]
            score = half.confirmation.data.columns(compared)
            aurocs = paired_auroc(score)
            results[n].append(
                ControlResult(
                    kind=kind,
                    tested=chosen[n].tested,
                    selected=len(chosen[n].latents),
                    confirmed=int(tested[n].passed(config.alpha).sum()),
                    compared=len(compared),
                    best_d_z=float(np.abs(cohens_dz(score)).max()) if len(compared) else None,
                    best_auroc=float(np.maximum(aurocs, 1 - aurocs).max()) if len(compared) else None,
                )
            )
    return [tuple(own) for own in results]
