"""Which SAE of the new bundle stands for which of the base, how faithful both are, and which latents are partners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from audit.analysis.matching import MatchedLatents, match_latents
from audit.evidence.store import Store
from audit.evidence.versions import read_token_rows
from audit.records import (
    ConceptResult,
    DiffMargins,
    Fidelity,
    FidelityPair,
    Findings,
    InstrumentPair,
    LatentMatching,
    MixResult,
    SaeRecord,
)
from probes.schema import Split


@dataclass(frozen=True, slots=True)
class Instruments:
    """An SAE of the base, its counterpart, and their latents.

    Args:
        record: what the result says of them.
        partners: base latent -> (new latent, correlation); None where latents are paired by number.
    """

    record: InstrumentPair
    partners: Mapping[int, tuple[int, float]] | None

    def comparable(self, part: str) -> bool:
        """Return whether features may be compared on a concept or mix."""
        return self.record.comparable and all(pair.comparable for pair in self.record.fidelity if pair.scope == part)

    def partner(self, latent: int) -> tuple[int, float | None] | None:
        """Return the new SAE's latent for one of the base's, with their correlation unless it is the same one."""
        return (latent, None) if self.partners is None else self.partners.get(latent)

    def owner(self, latent: int) -> int | None:
        """Return the base's latent for one of the new SAE's."""
        if self.partners is None:
            return latent
        return next((own for own, (other, _) in self.partners.items() if other == latent), None)


def pair_instruments(base: Findings, new: Findings) -> tuple[tuple[SaeRecord, SaeRecord | None], ...]:
    """Return each SAE of the base with the one that stands for it: the same by digest, or one at the same site.

    At one site an SAE of the same name goes first; an SAE stands for one only.
    """
    left = {sae.record.name: sae.record for sae in new.saes}
    found: dict[str, SaeRecord] = {}
    rules = (
        lambda one, other: one.digest == other.digest and one.site == other.site,
        lambda one, other: (one.site, one.target, one.name) == (other.site, other.target, other.name),
        lambda one, other: (one.site, one.target) == (other.site, other.target),
    )
    for rule in rules:
        for sae in (sae.record for sae in base.saes if sae.record.name not in found):
            if match := next((other for other in left.values() if rule(sae, other)), None):
                found[sae.name] = left.pop(match.name)
    return tuple((sae.record, found.get(sae.record.name)) for sae in base.saes)


def read_instruments(
    stores: tuple[Store, Store],
    findings: tuple[Findings, Findings],
    *,
    prompts: pd.DataFrame,
    asked: Mapping[str, tuple[Sequence[int], Sequence[int]]],
    margins: DiffMargins,
) -> tuple[Instruments, ...]:
    """Return the pairs of SAEs with fidelity and partners.

    Args:
        stores: the evidence of base and new.
        findings: their findings.
        prompts: the prompts that both share, by number.
        asked: base SAE -> latents of the base and of the new SAE that a row is asked for, to name unmatched ones.
        margins: the limits.
    """
    found = []
    for sae, other in pair_instruments(*findings):
        if other is None:
            reason = f"no SAE of the new bundle reads {sae.site}"
            found.append(
                Instruments(InstrumentPair(sae.name, None, sae.site, False, (), None, False, reason), partners=None)
            )
            continue
        fidelity = tuple(_fidelity(findings, sae.name, other.name, margins))
        overall = fidelity[0]
        record = InstrumentPair(
            base=sae.name,
            new=other.name,
            site=sae.site,
            same=sae.digest == other.digest,
            fidelity=fidelity,
            matching=None,
            comparable=overall.comparable,
            reason=overall.reason,
        )
        partners = None
        if not record.same:
            matched = _match(stores, sae.name, other.name, prompts, margins)
            partners = {
                int(b): (int(n), float(r)) for b, n, r in zip(matched.base, matched.new, matched.r, strict=True)
            }
            tokens = int(_sample(prompts, margins)["tokens"].sum())
            record = replace(record, matching=_matching(matched, tokens, asked[sae.name]))
        found.append(Instruments(record, partners))
    return tuple(found)


def _sample(prompts: pd.DataFrame, margins: DiffMargins) -> pd.DataFrame:
    """Return some prompts of discovery scenarios, evenly spread: partners are not chosen by what is then compared."""
    own = prompts[(prompts["split"] == Split.DISCOVERY.value) & (prompts["frame"] != "outcome")]
    places = np.unique(np.linspace(0, len(own) - 1, min(len(own), margins.match_prompts)).round().astype(np.int64))
    return own.iloc[places]


def _match(
    stores: tuple[Store, Store], sae: str, other: str, prompts: pd.DataFrame, margins: DiffMargins
) -> MatchedLatents:
    sample = _sample(prompts, margins)
    numbers, lengths = [int(n) for n in sample.index], [int(n) for n in sample["tokens"]]
    one, two = (
        read_token_rows(store, sae=name, prompts=numbers, lengths=lengths)
        for store, name in zip(stores, (sae, other), strict=True)
    )
    return match_latents(one, two, margins)


def _matching(matched: MatchedLatents, tokens: int, asked: tuple[Sequence[int], Sequence[int]]) -> LatentMatching:
    base, new = set(matched.base.tolist()), set(matched.new.tolist())
    return LatentMatching(
        tokens=tokens,
        live_base=len(matched.live_base),
        live_new=len(matched.live_new),
        matched=len(matched.base),
        unmatched_base=len(matched.live_base) - len(matched.base),
        unmatched_new=len(matched.live_new) - len(matched.new),
        null_r=matched.null_r,
        median_r=float(np.median(matched.r)) if len(matched.r) else None,
        asked_unmatched_base=tuple(sorted(set(asked[0]) - base)),
        asked_unmatched_new=tuple(sorted(set(asked[1]) - new)),
    )


def _fidelity(
    findings: tuple[Findings, Findings], sae: str, other: str, margins: DiffMargins
) -> Iterator[FidelityPair]:
    """Yield the pair over all prompts, then those of each concept and mix."""
    one, two = (_scopes(own, name) for own, name in zip(findings, (sae, other), strict=True))
    for scope, first in one.items():
        if (second := two.get(scope)) is not None:
            yield _fidelity_pair(scope, first, second, margins)


def _scopes(findings: Findings, sae: str) -> dict[str, Fidelity]:
    overall = next(item.fidelity for item in findings.saes if item.record.name == sae)
    parts: tuple[ConceptResult | MixResult, ...] = (*findings.concepts, *findings.mixes)
    return {"all": overall} | {part.id: own for part in parts for own in part.fidelity if own.sae == sae}


def _fidelity_pair(scope: str, one: Fidelity, other: Fidelity, margins: DiffMargins) -> FidelityPair:
    low, high = sorted((one.fvu, other.fvu))
    ratio = high / low if low > 0 else 1.0 if high == low else float(np.finfo(np.float64).max)
    first, second = (None if own.delta_ce is None else own.delta_ce.value for own in (one, other))
    problems = []
    if ratio > margins.fvu_ratio:
        problems.append(f"the FVU of the one is {ratio:.2f} times the other's, more than {margins.fvu_ratio:g}")
    if (first is None) != (second is None):
        problems.append("the rise of cross-entropy was measured on one of the models only")
    elif first is not None and second is not None and abs(first - second) > margins.delta_ce:
        apart = abs(first - second)
        problems.append(f"the rises of cross-entropy are {apart:.3f} nats apart, more than {margins.delta_ce:g}")
    return FidelityPair(scope, one.fvu, other.fvu, ratio, first, second, not problems, "; ".join(problems))
