"""The factorial over a mix of two concepts: which features do on both together what they do on neither alone.

A contrast, never a cause. Features that were confirmed for one of the concepts on other texts are tested as they are;
all other live features are chosen on discovery first. The two are families of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.analysis.effects import Bootstrap
from audit.analysis.ladder import Gate, chance_limit
from audit.analysis.mix_measures import MEASURES, MixDifferences, live_latents, measure, thresholds
from audit.analysis.mix_steps import Families, TestedMix, choose, confirm, placebo_alone, relabelled_hits, words
from audit.arrays import Confirmation, Discovery, FloatArray, Halves, MixScores
from audit.config import AnalysisConfig, InteractionConfig
from audit.records import MixEffect, MixFinding, MixScan, Rung


@dataclass(frozen=True, slots=True)
class _Named:
    """What every finding of a scan shares."""

    mix: str
    sae: str
    owners: Mapping[int, tuple[str, ...]]
    cap: Gate
    emergent_limit: float


@dataclass(frozen=True, slots=True)
class _Tested:
    """One family on confirmation, with the names and thresholds of its features."""

    latents: Sequence[int]
    limits: FloatArray
    differences: Confirmation[MixDifferences]
    tested: TestedMix


def scan_mix(
    scores: Halves[MixScores],
    *,
    mix: str,
    sae: str,
    owners: Mapping[int, tuple[str, ...]],
    limits: Gate,
    interaction: InteractionConfig,
    config: AnalysisConfig,
    seed: np.random.SeedSequence,
) -> MixScan:
    """Test every live feature of one SAE on one mix, beside the placebo.

    Effects are those of confirmation. Discovery gives the names of the live features, their thresholds, and which of
    those that nobody confirmed are tested in which direction.

    Args:
        scores: what the features do in each cell, both splits.
        mix: its id.
        sae: the name of the SAE.
        owners: latent -> the concepts of the mix that it was confirmed for on other texts.
        limits: what caps every finding before its own numbers are looked at.
        interaction: what is emergent.
        config: thresholds and counts.
        seed: of the sign assignments; p-values of confirmation do not depend on it.
    """
    latents = live_latents(scores.discovery, least=config.min_firing_scenarios)
    n_confirmation = len(scores.confirmation.data.scenarios)
    if not len(latents) or not n_confirmation:
        return _untested(sae, n_confirmation, config)
    levels = thresholds(scores.discovery, latents, single_firing=interaction.emergent_single_firing)
    halves = Halves(
        Discovery(measure(scores.discovery.data, latents, levels)),
        Confirmation(measure(scores.confirmation.data, latents, levels)),
    )
    known = np.isin(latents, list(owners))
    families = Families(confirmed=np.flatnonzero(known), scan=np.flatnonzero(~known))
    choosing, exchanging, beside = (np.random.default_rng(child) for child in seed.spawn(3))
    limit = interaction.emergent_single_firing
    hits = relabelled_hits(halves, families, config, limit=limit, rng=exchanging)
    cap = _cap(limits, int(hits.sum()), len(hits), n_confirmation, config)

    chosen = choose(Discovery(halves.discovery.data.pick(families.scan).contrasts()), config, choosing)
    picked = np.flatnonzero((chosen.signs != 0).any(axis=0))

    def family(places: NDArray[np.int64], signs: FloatArray | None) -> _Tested:
        values = halves.confirmation.data.pick(places)
        tested = confirm(Confirmation(values.contrasts()), signs, config)
        return _Tested(latents[places].tolist(), levels[places], Confirmation(values), tested)

    parts = (family(families.confirmed, None), family(families.scan[picked], chosen.signs[:, picked]))
    named = _Named(mix, sae, owners, cap, limit)
    return MixScan(
        sae=sae,
        confirmed_tested=len(families.confirmed),
        scan_tested=len(families.scan),
        scan_selected=len(picked),
        placebo_findings=int(hits.sum()),
        relabellings=len(hits),
        placebo_alone=placebo_alone(halves, families, config, limit=limit, rng=beside),
        findings=tuple(finding for part in parts for finding in _findings(part, named, config)),
        rung=cap.cap,
        reason="; ".join(filter(None, (cap.reason, _choice(halves, families, by_maximum=chosen.by_maximum)))),
    )


def _untested(sae: str, n_confirmation: int, config: AnalysisConfig) -> MixScan:
    reason = f"no feature fires in {config.min_firing_scenarios} or more discovery scenarios of the mix"
    if not n_confirmation:
        reason = "the mix has no confirmation scenario with every cell"
    return MixScan(sae, 0, 0, 0, 0, 0, 0, (), Rung.UNRESOLVED, reason)


def _cap(limits: Gate, hits: int, runs: int, n_confirmation: int, config: AnalysisConfig) -> Gate:
    """Return the lowest of what caps the findings; nothing here was intervened on, so none is causal."""
    caps = [limits]
    if hits > chance_limit(config.alpha, runs) * runs:
        reason = f"the placebo control failed: {hits} of {runs} runs with concept and placebo exchanged find something"
        caps.append(Gate(Rung.UNRESOLVED, reason))
    if n_confirmation < config.min_confirmation_scenarios:
        few = f"{n_confirmation} confirmation scenarios, at least {config.min_confirmation_scenarios} needed"
        caps.append(Gate(Rung.OBSERVED, f"exploratory: {few}"))
    lowest = min(caps, key=lambda gate: gate.cap.height)
    return lowest if lowest.cap.height < Rung.CONFIRMED.height else Gate(Rung.CONFIRMED, "")


def _choice(halves: Halves[MixDifferences], families: Families, *, by_maximum: bool) -> str:
    tests, n = len(families.scan) * len(MEASURES), halves.discovery.data.second.shape[1]
    if not tests:
        return "every live feature is confirmed for one of the concepts: none was scanned"
    if not by_maximum:
        return f"discovery chose among {tests} tests by Benjamini-Hochberg"
    return (
        f"discovery chose among {tests} tests by max-T: with {n} scenarios no p is below {2.0 ** (1 - n):.1g},"
        " too coarse for Benjamini-Hochberg"
    )


def _findings(part: _Tested, named: _Named, config: AnalysisConfig) -> list[MixFinding]:
    """Return the features of a family for which some word holds, the smallest p first."""
    contrasts, tested = part.differences.data.contrasts(), part.tested
    single = contrasts.single_firing()
    held = words(tested.claims, single, limit=named.emergent_limit)
    listed = np.flatnonzero(np.any(list(held.values()), axis=0))
    listed = listed[np.argsort(tested.p_holm[:, listed].min(axis=0, initial=1.0), kind="stable")]
    n = contrasts.own.shape[1]
    bootstrap = Bootstrap.draw(n, resamples=config.bootstrap, seed=config.seed)
    found = []
    for place in listed.tolist():
        latent = part.latents[place]
        owners = tuple(named.owners.get(latent, ()))
        found.append(
            MixFinding(
                id=f"{named.mix}/{named.sae}/{latent}",
                mix=named.mix,
                sae=named.sae,
                latent=latent,
                owners=owners,
                words=tuple(word for word, mask in held.items() if mask[place]),
                effects=_effects(part, place, bootstrap),
                threshold=float(part.limits[place]),
                single_firing=float(single[place]),
                rung=named.cap.cap,
                reason=named.cap.reason or _reason(owners),
                n_scenarios=n,
            )
        )
    return found


def _effects(part: _Tested, place: int, bootstrap: Bootstrap) -> tuple[MixEffect, ...]:
    """Return the tested measures of one feature: means over scenarios, beside filler and beyond the placebo version."""
    made = np.flatnonzero(part.tested.made[:, place])
    own, placebo = (
        values[made, :, place].T for values in (part.differences.data.second, part.differences.data.placebo)
    )
    estimates = zip(bootstrap.means(Confirmation(own)), bootstrap.means(Confirmation(own - placebo)), strict=True)
    return tuple(
        MixEffect(
            measure=MEASURES[number],
            effect=effect,
            against_placebo=excess,
            p_value=float(part.tested.p[number, place]),
            p_holm=float(part.tested.p_holm[number, place]),
        )
        for number, (effect, excess) in zip(made.tolist(), estimates, strict=True)
    )


def _reason(owners: tuple[str, ...]) -> str:
    whence = f"confirmed for {', '.join(owners)} on other texts" if owners else "chosen on discovery"
    return f"{whence}; on held-out scenarios of the mix it passes the test, and that against the placebo"
