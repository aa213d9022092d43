"""What happens when a prompt mixes two concepts: co-firing and the factorial, from evidence alone. Needs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from audit.analysis.cofiring import Cosine, co_firing
from audit.analysis.factorial import scan_mix
from audit.analysis.fidelity import part_fidelity
from audit.analysis.ladder import gate
from audit.arrays import Confirmation, Discovery, Halves
from audit.assessment import Assessment, Reader
from audit.config import AuditConfig
from audit.evidence.firing import read_firing_units
from audit.evidence.mixes import read_mix
from audit.evidence.scores import read_fidelity
from audit.evidence.store import Store
from audit.progress import Progress
from audit.records import CoFiring, Fidelity, MixResult, MixScan, Rung
from probes.schema import Mix, Split, Suite


def assess_co_firing(
    store: Store,
    config: AuditConfig,
    readers: Sequence[Reader],
    *,
    cosines: Mapping[str, Cosine],
    progress: Progress,
) -> tuple[CoFiring, ...]:
    """Return which features of each SAE fire together more often than chance, one record an SAE.

    Args:
        store: the evidence.
        config: thresholds, seeds and counts.
        readers: the SAEs.
        cosines: SAE name -> cosine of the decoder rows of two of its latents.
        progress: listener.
    """
    with progress.stage("counting joint firings", total=len(readers)) as advance:
        found = []
        for reader in readers:
            found.append(_co_firing(store, reader, cosines[reader.sae.name], config))
            advance(1)
    return tuple(found)


def assess_mixes(
    store: Store,
    suites: Sequence[Suite],
    config: AuditConfig,
    readers: Sequence[Reader],
    *,
    assessment: Assessment,
    progress: Progress,
) -> tuple[MixResult, ...]:
    """Return what features do in each mix: the factorial scan of the captured cells.

    Args:
        store: evidence with the captured cells of every mix.
        suites: the suites that were run.
        config: thresholds, seeds and counts.
        readers: the SAEs, each with families of its own; so has each mix.
        assessment: which features are confirmed for which concept, on other texts than the mixes.
        progress: listener.

    Returns:
        Results that depend on the evidence and the configuration alone. Mixes have no causal pairs yet.
    """
    mixes = [(suite, mix) for suite in suites for mix in suite.mixes]
    with progress.stage("testing mixes", total=len(mixes) * len(readers)) as advance:
        results = []
        for number, (suite, mix) in enumerate(mixes):
            fidelity = _fidelity(store, mix, assessment, config)
            scans = []
            for place, reader in enumerate(readers):
                seed = np.random.SeedSequence([config.analysis.seed, number, place])
                own = fidelity[reader.sae.name]
                scans.append(_scan(store, mix, reader, assessment, fidelity=own, seed=seed, config=config))
                advance(1)
            silent = _silent(mix, assessment, scans, config)
            results.append(_result(suite, mix, tuple(fidelity.values()), tuple(scans), silent))
    return tuple(results)


def _co_firing(store: Store, reader: Reader, cosine: Cosine, config: AuditConfig) -> CoFiring:
    return co_firing(
        read_firing_units(store, sae=reader.sae.name),
        cosine,
        sae=reader.sae.name,
        config=config.interaction,
        fdr_q=config.analysis.fdr_q,
        seed=config.analysis.seed,
    )


def _scan(
    store: Store,
    mix: Mix,
    reader: Reader,
    assessment: Assessment,
    *,
    fidelity: Fidelity,
    seed: np.random.SeedSequence,
    config: AuditConfig,
) -> MixScan:
    sae = reader.sae.name
    discovery, confirmation = (
        read_mix(store, mix=mix.id, sae=sae, split=split) for split in (Split.DISCOVERY, Split.CONFIRMATION)
    )
    return scan_mix(
        Halves(Discovery(discovery), Confirmation(confirmation)),
        mix=mix.id,
        sae=sae,
        owners=confirmed_owners(assessment, mix, sae=sae),
        limits=gate(fidelity, assessment.permutation_control, len(confirmation.scenarios), config.analysis),
        interaction=config.interaction,
        config=config.analysis,
        seed=seed,
    )


def confirmed_owners(assessment: Assessment, mix: Mix, *, sae: str) -> dict[int, tuple[str, ...]]:
    """Return latent -> those of the mix's concepts for which it is confirmed, whichever contrast it was."""
    owners: dict[int, tuple[str, ...]] = {}
    for concept in assessment.concepts:
        if concept.id not in mix.concepts:
            continue
        standing = {
            finding.latent
            for contrast in concept.contrasts
            if contrast.sae == sae
            for finding in contrast.findings
            if finding.rung.height >= Rung.CONFIRMED.height
        }
        for latent in sorted(standing):
            owners[latent] = (*owners.get(latent, ()), concept.id)
    return owners


def _silent(mix: Mix, assessment: Assessment, scans: Sequence[MixScan], config: AuditConfig) -> tuple[str, ...]:
    """Return which confirmed features were not tested, since they hardly fire in the mix."""
    found = []
    for scan in scans:
        left = len(confirmed_owners(assessment, mix, sae=scan.sae)) - scan.confirmed_tested
        if left:
            few = f"they fire in fewer than {config.analysis.min_firing_scenarios} discovery scenarios"
            found.append(f"{left} confirmed features of {scan.sae}: {few}")
    return tuple(found)


def _fidelity(store: Store, mix: Mix, assessment: Assessment, config: AuditConfig) -> dict[str, Fidelity]:
    return {
        sae: part_fidelity(sae, mix.id, read_fidelity(store, sae=sae, concept=mix.id), overall, config=config.fidelity)
        for sae, overall in assessment.fidelity.items()
    }


def _result(
    suite: Suite, mix: Mix, fidelity: tuple[Fidelity, ...], scans: tuple[MixScan, ...], untested: tuple[str, ...]
) -> MixResult:
    return MixResult(
        id=mix.id,
        title=mix.title,
        domain=suite.domain,
        why=mix.why,
        concepts=mix.concepts,
        placebo=mix.placebo.title,
        n_discovery=len(mix.in_split(Split.DISCOVERY)),
        n_confirmation=len(mix.in_split(Split.CONFIRMATION)),
        fidelity=fidelity,
        scans=scans,
        pairs=(),
        untested=untested,
    )
