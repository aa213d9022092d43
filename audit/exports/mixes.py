"""The answers about mixes of two concepts: what features do on both together, and what pairs do to the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from audit.digests import Json
from audit.exports.answers import Answer, Claim, Kind, Standing, estimate_words
from audit.exports.english import counted
from audit.exports.source import line
from audit.records import Findings, MixResult, MixScan, Rung, as_json
from reports.numbers import count, probability
from reports.queries import MIXES, PAIRS


def mix_answers(findings: Findings) -> Iterator[Answer]:
    """Yield an answer for each mix and SAE, and one for the pairs of features that were lowered together."""
    for mix in findings.mixes:
        left_out = "".join(f" Not measured: {line(text)}." for text in sorted(mix.untested))
        if not mix.scans:
            said = f"The mix was not measured.{left_out}"
            yield _mix(mix, Kind.MIX, "", Standing.OPEN, short="Not measured", said=said)
        for scan in mix.scans:
            yield _scan(mix, scan)
        for sae in sorted({pair.sae for pair in mix.pairs}):
            yield _pairs(mix, sae, left_out)
        if mix.scans and not mix.pairs:
            said = f"No pair of features was tested.{left_out}"
            yield _mix(mix, Kind.PAIRS, "", Standing.OPEN, short="Not measured", said=said)


def _scan(mix: MixResult, scan: MixScan) -> Answer:
    held = sorted(
        (finding for finding in scan.findings if finding.rung.height >= Rung.CONFIRMED.height and finding.words),
        key=lambda finding: (-finding.rung.height, finding.latent),
    )
    said = (
        f"{counted(len(held), 'feature')} reacted to both concepts together beyond filler and placebo, of"
        f" {count(scan.confirmed_tested)} confirmed ones and {count(scan.scan_tested)} others that were tested; rung at"
        f" most {scan.rung.value}; n = {counted(mix.n_confirmation, 'confirmation scenario')}. Reason:"
        f" {line(scan.reason)}. With the second concept and the placebo exchanged, {count(scan.placebo_findings)} of"
        f" {count(scan.relabellings)} runs found anything. It does not show that the model uses a feature."
    )
    claims = tuple(
        Claim(
            finding.id,
            (
                f"Feature {finding.latent} of {line(finding.sae)}: {', '.join(word.value for word in finding.words)},"
                f" rung {finding.rung.value}, n = {counted(finding.n_scenarios, 'scenario')}. "
                + " ".join(
                    f"{effect.measure.value}: {estimate_words('effect', effect.effect)}, p Holm"
                    f" {probability(effect.p_holm)}."
                    for effect in finding.effects
                )
            ),
            {
                "rung": finding.rung.value,
                "latent": finding.latent,
                "words": [word.value for word in finding.words],
                "effects": [as_json(effect) for effect in finding.effects],
                "nScenarios": finding.n_scenarios,
            },
            MIXES,
        )
        for finding in held
    )
    return _mix(
        mix,
        Kind.MIX,
        scan.sae,
        Standing.ANSWERED if held and scan.rung.height >= Rung.CONFIRMED.height else Standing.OPEN,
        short=f"{counted(len(held), 'feature')} confirmed" if held else "None shown",
        said=said,
        figures={
            "confirmedTested": scan.confirmed_tested,
            "scanTested": scan.scan_tested,
            "scanSelected": scan.scan_selected,
            "confirmed": len(held),
        },
        claims=claims,
        not_listed=len(scan.findings) - len(held),
    )


def _pairs(mix: MixResult, sae: str, left_out: str) -> Answer:
    pairs = sorted((pair for pair in mix.pairs if pair.sae == sae), key=lambda pair: (pair.first, pair.second, pair.id))
    held = [pair for pair in pairs if pair.word is not None and pair.rung is Rung.CAUSAL]
    unresolved = sum(pair.rung is Rung.UNRESOLVED for pair in pairs)
    claims = tuple(
        Claim(
            pair.id,
            (
                f"Features {pair.first} and {pair.second} of {line(sae)}:"
                f" {pair.word.value if pair.word is not None else 'nothing claimed'}, rung {pair.rung.value}:"
                f" {estimate_words('interaction in nats', pair.interaction, 4)}, p Holm {probability(pair.p_holm)}, n ="
                f" {counted(pair.n_scenarios, 'scenario')}. Reason: {line(pair.reason)}."
            ),
            {
                "rung": pair.rung.value,
                "latents": [pair.first, pair.second],
                "interactionNats": as_json(pair.interaction),
                "pHolm": pair.p_holm,
                "nScenarios": pair.n_scenarios,
            },
            PAIRS,
        )
        for pair in held
    )
    said = (
        f"Of {counted(len(pairs), 'pair')} of features {len(held)} changed the answer together otherwise than each"
        f" alone adds up to; {unresolved} could not be tested.{left_out}"
    )
    return _mix(
        mix,
        Kind.PAIRS,
        sae,
        Standing.ANSWERED if held else Standing.OPEN,
        short=f"{counted(len(held), 'pair')} changed the answer" if held else "None shown",
        said=said,
        figures={"tested": len(pairs), "causal": len(held), "unresolved": unresolved},
        claims=claims,
        not_listed=len(pairs) - len(held),
    )


def _mix(
    mix: MixResult,
    kind: Kind,
    sae: str,
    standing: Standing,
    *,
    short: str,
    said: str,
    figures: Mapping[str, Json] | None = None,
    claims: tuple[Claim, ...] = (),
    not_listed: int = 0,
) -> Answer:
    asks = (
        "Does a feature react to two concepts together otherwise than to each alone, beyond filler and a placebo?"
        if kind is Kind.MIX
        else "Do two features together change the model's answer otherwise than each alone adds up to?"
    )
    return Answer(
        kind=kind,
        part=mix.id,
        title=line(mix.title),
        domain=mix.domain,
        sae=sae,
        contrast="",
        asks=asks,
        standing=standing,
        short=short,
        said=said,
        n_scenarios=mix.n_confirmation if mix.scans else None,
        figures=figures or {},
        query=MIXES if kind is Kind.MIX else PAIRS,
        claims=claims,
        not_listed=not_listed,
    )
