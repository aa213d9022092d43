"""The answers about single concepts: each contrast through each SAE, and what lowering features did."""

from __future__ import annotations

from collections.abc import Iterator

from audit.digests import Json
from audit.exports.answers import Answer, Claim, Kind, Standing, estimate_words
from audit.exports.english import counted
from audit.exports.source import line
from audit.records import (
    CausalEffect,
    ConceptResult,
    Contrast,
    ContrastResult,
    Finding,
    Findings,
    Reading,
    Rung,
    as_json,
)
from reports.numbers import count, probability
from reports.queries import EFFECTS, SCORES
from reports.words import CONTRAST_QUESTIONS, EXPLORATORY, READINGS

_NOT_PUT = "This question was not put for this concept through this SAE."


def contrast_answers(findings: Findings) -> Iterator[Answer]:
    """Yield an answer for each concept, contrast and SAE, measured or not."""
    saes = [sae.record.name for sae in findings.saes]
    for concept in findings.concepts:
        for contrast in Contrast:
            for sae in saes:
                result = next((r for r in concept.contrasts if r.contrast is contrast and r.sae == sae), None)
                yield _tested(concept, result) if result is not None else _not_tested(concept, contrast, sae)


def _tested(concept: ConceptResult, result: ContrastResult) -> Answer:
    words = READINGS[result.reading]
    standing = _standing(concept, result)
    parts = [words.sentence, f"Reason: {line(result.reason)}."]
    probe = next((b for b in result.baselines if b.kind is result.probe_kind), None)
    estimates = {}
    if probe is not None:
        parts.append(f"Linear probe ({probe.kind.value}): {estimate_words('AUROC', probe.auroc)}.")
        estimates[f"paired AUROC, linear probe ({probe.kind.value})"] = probe.auroc
    if result.best_auroc is not None:
        parts.append(f"First feature: {estimate_words('AUROC', result.best_auroc)}.")
        estimates["paired AUROC, first SAE feature"] = result.best_auroc
    parts.append(
        f"{counted(result.confirmed, 'feature')} confirmed of {count(result.selected)} selected and"
        f" {count(result.tested)} tested, whichever arm they are louder on; n ="
        f" {counted(result.n_confirmation, 'confirmation scenario')}."
    )
    if concept.exploratory:
        parts.append(EXPLORATORY)
    claims = tuple(
        _feature(finding)
        for finding in sorted(result.findings, key=lambda f: (-f.rung.height, -abs(f.d_z.value), f.latent))
        if finding.rung.height >= Rung.CONFIRMED.height
    )
    return Answer(
        kind=Kind(result.contrast.value),
        part=concept.id,
        title=line(concept.title),
        domain=concept.domain,
        sae=result.sae,
        contrast="",
        asks=CONTRAST_QUESTIONS[result.contrast],
        standing=standing,
        short=words.short,
        said=" ".join(parts),
        n_scenarios=result.n_confirmation,
        figures={
            "reading": result.reading.value,
            "probe": None if probe is None else probe.kind.value,
            "probeAuroc": None if probe is None else as_json(probe.auroc),
            "bestLatent": result.best_latent,
            "bestAuroc": as_json(result.best_auroc),
            "tested": result.tested,
            "selected": result.selected,
            "passing": result.passing,
            "confirmed": result.confirmed,
            "nDiscovery": result.n_discovery,
            "nConfirmation": result.n_confirmation,
        },
        query=SCORES,
        estimates=estimates,
        claims=claims,
        not_listed=len(result.findings) - len(claims),
    )


def _standing(concept: ConceptResult, result: ContrastResult) -> Standing:
    if result.reading is Reading.SUSPECT:
        return Standing.DOUBTFUL
    answered = result.reading in {Reading.DECOMPOSED, Reading.NOT_DECOMPOSED}
    return Standing.ANSWERED if answered and result.n_confirmation and not concept.exploratory else Standing.OPEN


def _not_tested(concept: ConceptResult, contrast: Contrast, sae: str) -> Answer:
    untested = next((u for u in concept.untested if u.contrast is contrast and u.sae == sae), None)
    words = READINGS[Reading.UNRESOLVED]
    reason = _NOT_PUT if untested is None else f"{words.sentence} Reason: {line(untested.reason)}."
    return Answer(
        kind=Kind(contrast.value),
        part=concept.id,
        title=line(concept.title),
        domain=concept.domain,
        sae=sae,
        contrast="",
        asks=CONTRAST_QUESTIONS[contrast],
        standing=Standing.NOT_PUT if untested is None else Standing.OPEN,
        short="Not put" if untested is None else words.short,
        said=reason,
        n_scenarios=None,
        figures={"reading": None if untested is None else Reading.UNRESOLVED.value},
        query=SCORES,
    )


def _feature(finding: Finding) -> Claim:
    said = (
        f"Feature {finding.latent} of {line(finding.sae)} tells the arms apart ({finding.contrast.value}), rung"
        f" {finding.rung.value}: {estimate_words('d_z', finding.d_z)}, {estimate_words('AUROC', finding.auroc)},"
        f" p Holm {probability(finding.p_holm)}, n = {counted(finding.n_scenarios, 'scenario')},"
        f" {finding.lexical.value}. Reason: {line(finding.reason)}. It shows that the feature reacts, not that the"
        " model uses it."
    )
    figures: dict[str, Json] = {
        "rung": finding.rung.value,
        "latent": finding.latent,
        "dZ": as_json(finding.d_z),
        "auroc": as_json(finding.auroc),
        "pHolm": finding.p_holm,
        "pMaxT": finding.p_max_t,
        "nScenarios": finding.n_scenarios,
        "lexical": finding.lexical.value,
    }
    return Claim(finding.id, said, figures, line(finding.query))


def intervention_answers(findings: Findings) -> Iterator[Answer]:
    """Yield an answer for each concept, contrast and SAE of which features were lowered."""
    causal = findings.causal
    titles = {concept.id: concept for concept in findings.concepts}
    grouped: dict[tuple[str, Contrast, str], list[CausalEffect]] = {}
    for effect in causal.effects if causal is not None else ():
        grouped.setdefault((effect.concept, effect.contrast, effect.sae), []).append(effect)
    for (part, contrast, sae), effects in grouped.items():
        concept = titles.get(part)
        moved = [effect for effect in effects if effect.rung is Rung.CAUSAL]
        unresolved = sum(effect.rung is Rung.UNRESOLVED for effect in effects)
        kept = len(effects) - len(moved) - unresolved
        yield Answer(
            kind=Kind.INTERVENTION,
            part=part,
            title=line(concept.title if concept is not None else part),
            domain=concept.domain if concept is not None else "",
            sae=sae,
            contrast=contrast.value,
            asks="Does the model's answer change when a confirmed feature is lowered to its level in the matched arm?",
            standing=Standing.ANSWERED if moved and not (concept and concept.exploratory) else Standing.OPEN,
            short=f"{counted(len(moved), 'feature')} changed the answer" if moved else "No change shown",
            said=(
                f"Of {counted(len(effects), 'feature')} confirmed on the {contrast.value} and lowered, {len(moved)}"
                f" changed the answer beyond random directions of equal size, {kept} did not, {unresolved} could not be"
                " tested. That nothing changed does not show that the model uses nothing."
            ),
            n_scenarios=max(effect.n_scenarios for effect in effects),
            figures={"lowered": len(effects), "causal": len(moved), "noChange": kept, "unresolved": unresolved},
            query=EFFECTS,
            claims=tuple(_effect(effect) for effect in sorted(moved, key=lambda e: (-abs(e.effect.value), e.latent))),
            not_listed=len(effects) - len(moved),
        )


def _effect(effect: CausalEffect) -> Claim:
    said = (
        f"Lowering feature {effect.latent} of {line(effect.sae)} changed the model's answer, rung {effect.rung.value}:"
        f" {estimate_words('effect in nats', effect.effect, 4)}, p Holm {probability(effect.p_holm)}, n ="
        f" {counted(effect.n_scenarios, 'scenario')}. Reason: {line(effect.reason)}."
    )
    figures: dict[str, Json] = {
        "rung": effect.rung.value,
        "latent": effect.latent,
        "effectNats": as_json(effect.effect),
        "klNats": as_json(effect.kl),
        "pHolm": effect.p_holm,
        "nScenarios": effect.n_scenarios,
    }
    return Claim(effect.id, said, figures, EFFECTS)
