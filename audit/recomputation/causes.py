"""The causal results again, from the rows that every exact run left in the evidence. Needs no model.

First-order estimates are not evidence: of a sham that was not run it is taken as recorded that its estimate was small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from audit.analysis.causal import (
    PILOT_SCENARIOS,
    RESOLUTION,
    EdgeRuns,
    FeatureRuns,
    PairRuns,
    by_sae,
    causal_effect,
    causal_pair,
    check_screen,
    decidable,
    downstream_edges,
    error_node,
    sign_flips,
)
from audit.analysis.shams import sham_numbers
from audit.arrays import Confirmation, FloatArray
from audit.config import AuditConfig
from audit.evidence.causal_rows import CausalRows, grouped
from audit.records import (
    CausalEffect,
    CausalPair,
    ConceptResult,
    Contrast,
    DownstreamEdge,
    ErrorNode,
    Finding,
    Findings,
    Rung,
    ScreenCheck,
    ShamTest,
)

_ZERO = "zero"
_CONTRAST = {"neutral": Contrast.TOPIC, "control": Contrast.DISTINCTION}
_TIE = 1e-9
_WITHOUT = "not claimed as causal: "
Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class RecomputedCauses:
    """What the recorded runs give; `pairs` by mix."""

    effects: tuple[CausalEffect, ...]
    screens: tuple[ScreenCheck, ...]
    edges: tuple[DownstreamEdge, ...]
    errors: tuple[ErrorNode, ...]
    pairs: Mapping[str, tuple[CausalPair, ...]]


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of one feature in one contrast, with the scenarios in their order."""

    runs: FeatureRuns
    scenarios: tuple[str, ...]


def recompute_causes(
    rows: CausalRows, concepts: Sequence[ConceptResult], findings: Findings, config: AuditConfig
) -> RecomputedCauses:
    """Return the causal results of an audit from its raw rows.

    Args:
        rows: of the evidence.
        concepts: what the association tests give, before the causal tests.
        findings: what was recorded: of it only what no row can say is taken, why a sham test is missing and how many
            estimates were large.
        config: of the audit.
    """
    recorded = {} if findings.causal is None else {effect.id: effect for effect in findings.causal.effects}
    own = list(_features(rows, concepts))
    effects: list[CausalEffect] = []
    for places in by_sae([one.runs.finding.sae for one in own]).values():
        effects += _effects([own[n] for n in places], rows, recorded, config)
    return RecomputedCauses(
        tuple(effects),
        _screens(rows, findings, config),
        downstream_edges(list(_edges(rows, own, effects)), config.analysis),
        _errors(rows, effects, config),
        _pairs(rows, concepts, findings, config),
    )


def _features(rows: CausalRows, concepts: Sequence[ConceptResult]) -> Iterator[_Runs]:
    found = {
        (f.concept, f.contrast, f.sae, f.latent): f
        for concept in concepts
        for contrast in concept.contrasts
        for f in contrast.findings
        if f.rung is Rung.CONFIRMED
    }
    table = rows.interventions
    single = table[(table["kind"] == "feature") & table["reference"].isin([*_CONTRAST, _ZERO])]
    zeros = {
        key: dict(zip(part["scenario"], part["untouched"] - part["outcome"], strict=True))
        for key, part in grouped(single[single["reference"] == _ZERO], ["part", "sae", "first"])
    }
    lowered = grouped(single[single["reference"] != _ZERO], ["part", "sae", "first", "reference"])
    for (concept, sae, latent, reference), part in lowered:
        finding: Finding | None = found.get((concept, _CONTRAST[reference], sae, int(latent)))
        if finding is None:
            continue
        scenarios = tuple(part["scenario"])
        zero = zeros[concept, sae, latent]
        effect = (part["untouched"] - part["outcome"]).to_numpy(dtype=np.float64)
        yield _Runs(
            FeatureRuns(
                finding,
                reference,
                Confirmation(effect),
                Confirmation(np.array([zero[scenario] for scenario in scenarios])),
                Confirmation(part["kl"].to_numpy(dtype=np.float64)),
                int(part["changed"].sum()),
            ),
            scenarios,
        )


def _effects(
    own: Sequence[_Runs], rows: CausalRows, recorded: Mapping[str, CausalEffect], config: AuditConfig
) -> list[CausalEffect]:
    """Return the effects of one SAE, one family of tests."""
    alpha = config.analysis.alpha
    could = decidable([one.runs.changed for one in own], alpha=alpha).tolist()
    tests = iter(sign_flips([one.runs.effect for one, mark in zip(own, could, strict=True) if mark]))
    tested = [next(tests) if mark else None for mark in could]
    passing = sum(test is not None and test.p_holm <= alpha for test in tested)
    count, level = sham_numbers(passing, shams=config.causal.shams, alpha=alpha)
    found = []
    for one, test in zip(own, tested, strict=True):
        claim = f"{one.runs.finding.id}/causal"
        before = recorded.get(claim)
        shams = None
        if test is not None and test.p_holm <= alpha and before is not None and before.shams is not None:
            whole = replace(before.shams, count=count, level=level)
            shams = _shams(rows, claim, whole, one.runs.effect.data, one.scenarios)
        without = "" if before is None else before.reason.partition(_WITHOUT)[2]
        found.append(causal_effect(one.runs, test, shams, without=without, config=config.analysis))
    return found


def _shams(rows: CausalRows, claim: str, recorded: ShamTest, effects: FloatArray, scenarios: Sequence[str]) -> ShamTest:
    """Return a sham test from the rows of the shams that were run.

    Args:
        rows: of the evidence.
        claim: whose shams.
        recorded: the number of shams and the level; where no sham was run, how many estimates were above the effect.
        effects: (n,) what is claimed.
        scenarios: (n,) of these.
    """
    table = rows.shams
    run = table[(table["claim"] == claim) & table["downstream_latent"].isna()]
    if run.empty:
        p = (1 + recorded.exceeding) / (1 + recorded.count)
        return replace(recorded, p_value=p)
    where = {scenario: n for n, scenario in enumerate(scenarios)}
    used = [where[scenario] for scenario in run["scenarios"].iloc[0]]
    effect = float(effects[used].mean())
    means = run.drop_duplicates("number")["effect"].to_numpy(dtype=np.float64)
    above = int((np.abs(means) >= abs(effect) * (1 - _TIE)).sum())
    # Some ran for the edges to later features alone; where only these did, estimates decided.
    beside = len(means) - recorded.exact
    above = int(np.clip(recorded.exceeding, above - beside, above)) if recorded.exact else recorded.exceeding
    return ShamTest(
        recorded.count,
        min(recorded.exact, len(means)),
        above,
        (1 + above) / (1 + recorded.count),
        recorded.level,
        effect,
        len(used),
    )


def _edges(rows: CausalRows, own: Sequence[_Runs], effects: Sequence[CausalEffect]) -> Iterator[EdgeRuns]:
    """Return each feature's edges once: of two contrasts the first with shams speaks for them."""
    shams = {effect.id: effect.shams for effect in effects}
    by_id = {f"{one.runs.finding.id}/causal": one for one in own}
    ordered = sorted((effect.id for effect in effects), key=lambda claim: shams[claim] is None)
    falls = dict(grouped(rows.downstream, ["concept", "sae", "latent", "reference"]))
    beside = rows.shams[rows.shams["downstream_latent"].notna()]
    by_claim = {claim: part for (claim,), part in grouped(beside, ["claim"])}
    seen: set[Key] = set()
    for claim in ordered:
        finding, reference = by_id[claim].runs.finding, by_id[claim].runs.reference
        key = finding.concept, finding.sae, finding.latent
        part = falls.get((*key, reference))
        if key in seen or part is None:
            continue
        seen.add(key)
        yield from _edges_of(part, by_claim.get(claim) if shams[claim] is not None else None, finding)


def _edges_of(part: pd.DataFrame, shams: pd.DataFrame | None, finding: Finding) -> Iterator[EdgeRuns]:
    for (sae, latent), own in grouped(part, ["downstream_sae", "downstream_latent"]):
        beside, others = 0.0, ()
        if shams is not None:
            mine = shams[(shams["downstream_sae"] == sae) & (shams["downstream_latent"] == latent)]
            if len(mine):
                fall = dict(zip(own["scenario"], own["fall"], strict=True))
                beside = float(np.mean([fall[scenario] for scenario in mine["scenarios"].iloc[0]]))
                others = tuple(mine["effect"].tolist())
        yield EdgeRuns(
            concept=finding.concept,
            sae=finding.sae,
            latent=finding.latent,
            downstream_sae=str(sae),
            downstream_latent=int(latent),
            fall=Confirmation(own["fall"].to_numpy(dtype=np.float64)),
            beside=beside,
            shams=others,
        )


def _errors(rows: CausalRows, effects: Sequence[CausalEffect], config: AuditConfig) -> tuple[ErrorNode, ...]:
    alone: dict[tuple[str, str], dict[int, float]] = {}
    for effect in effects:
        alone.setdefault((effect.concept, effect.sae), {}).setdefault(effect.latent, effect.effect_zero.value)
    table = rows.interventions
    return tuple(
        error_node(
            str(concept),
            str(sae),
            Confirmation((part["untouched"] - part["outcome"]).to_numpy(dtype=np.float64)),
            alone.get((concept, sae), {}).values(),
            config.analysis,
        )
        for (concept, sae), part in grouped(table[table["kind"] == "error"], ["part", "sae"])
    )


def _screens(rows: CausalRows, findings: Findings, config: AuditConfig) -> tuple[ScreenCheck, ...]:
    recorded = {} if findings.causal is None else {(s.sae, s.subject): s.reason for s in findings.causal.screens}
    found = []
    for (sae, subject), part in grouped(rows.screens, ["sae", "subject"]):
        values = (part[name].to_numpy(dtype=np.float64) for name in ("estimate", "exact"))
        check = check_screen(str(sae), str(subject), *values, on="", limits=config.causal)
        # The words say of what the set was; the numbers are what is compared.
        found.append(replace(check, reason=recorded.get((str(sae), str(subject)), "")))
    return tuple(found)


def _pairs(
    rows: CausalRows, concepts: Sequence[ConceptResult], findings: Findings, config: AuditConfig
) -> dict[str, tuple[CausalPair, ...]]:
    recorded = {pair.id: pair for mix in findings.mixes for pair in mix.pairs}
    standing = {
        (f.concept, f.sae, f.latent)
        for concept in concepts
        for contrast in concept.contrasts
        for f in contrast.findings
        if f.rung.height >= Rung.CONFIRMED.height
    }
    members = {mix.id: mix.concepts for mix in findings.mixes}
    every = [(runs, scenarios) for runs, scenarios in _pair_runs(rows) if runs.mix in members]
    found: dict[str, tuple[CausalPair, ...]] = {}
    for places in by_sae([runs.sae for runs, _ in every]).values():
        own = [every[n] for n in places]
        stopped = [_stopped(runs) for runs, _ in own]
        tests = sign_flips(
            [
                Confirmation(np.zeros_like(runs.interaction.data)) if ended else runs.interaction
                for (runs, _), ended in zip(own, stopped, strict=True)
            ]
        )
        passing = sum(test.p_holm <= config.analysis.alpha for test in tests)
        _, level = sham_numbers(passing, shams=config.causal.shams, alpha=config.analysis.alpha)
        for (runs, scenarios), test, ended in zip(own, tests, stopped, strict=True):
            first, second = members[runs.mix]
            sure = {(first, runs.sae, runs.first), (second, runs.sae, runs.second)} <= standing
            claim = f"{runs.mix}/{runs.question}/{runs.sae}/{runs.first}+{runs.second}"
            before = recorded.get(claim)
            shams = None
            if test.p_holm <= config.analysis.alpha and before is not None and before.shams is not None:
                whole = replace(before.shams, level=level)
                shams = _shams(rows, claim, whole, runs.interaction.data, scenarios)
            without = "" if before is None else before.reason.partition(_WITHOUT)[2].partition("; not both")[0]
            pair = causal_pair(
                replace(runs, confirmed=sure), test, shams, without=without, stopped=ended, config=config.analysis
            )
            found[runs.mix] = (*found.get(runs.mix, ()), pair)
    return found


def _stopped(runs: PairRuns) -> bool:
    values = runs.interaction.data
    return len(values) <= PILOT_SCENARIOS and abs(float(values.mean())) < RESOLUTION


def _pair_runs(rows: CausalRows) -> Iterator[tuple[PairRuns, tuple[str, ...]]]:
    table = rows.interventions
    single = table[(table["kind"] == "feature") & table["reference"].isin(["01", "10"])]
    alone = {
        tuple(key): float(outcome)
        for *key, outcome in single[["part", "asked", "sae", "scenario", "reference", "first", "outcome"]].itertuples(
            index=False
        )
    }
    groups = grouped(table[table["kind"] == "pair"], ["part", "asked", "sae", "first", "second"])
    for (mix, asked, sae, first, second), part in groups:
        scenarios = tuple(part["scenario"])
        y11, y00 = (part[name].to_numpy(dtype=np.float64) for name in ("untouched", "outcome"))
        y01, y10 = (
            np.array([alone[mix, asked, sae, scenario, cell, latent] for scenario in scenarios])
            for cell, latent in (("01", first), ("10", second))
        )
        yield (
            PairRuns(
                mix=str(mix),
                question=str(asked),
                sae=str(sae),
                first=int(first),
                second=int(second),
                first_effect=Confirmation(y11 - y01),
                second_effect=Confirmation(y11 - y10),
                interaction=Confirmation(y11 - y10 - y01 + y00),
                confirmed=False,
            ),
            scenarios,
        )
