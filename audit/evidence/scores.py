"""Read the evidence as the arrays that the statistics need. Every reader is one or two named queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.arrays import (
    Densities,
    FidelityMoments,
    NeuronMaxima,
    NeuronScores,
    OutcomePairs,
    ResidualDifferences,
    ScenarioScores,
    TokenCounts,
)
from audit.evidence.activations import read_activations
from audit.evidence.store import Store, Value
from audit.records import Context, Quantile
from probes.schema import Arm, Split


def read_scores(store: Store, *, sae: str, concept: str, split: Split, arm: Arm, baseline: Arm) -> ScenarioScores:
    """Return the paired differences of every latent; a latent that is silent in a scenario scores 0 there."""
    where: dict[str, Value] = {
        "concept": concept, "split": split.value, "arm": arm.value, "baseline": baseline.value
    }  # fmt: skip
    numbers = store.query("scenario_numbers", where)["number"].to_numpy(dtype=np.int64)
    rows = store.query("scenario_scores", {**where, "sae": sae})
    rows = rows[rows["number"].isin(numbers)]
    latents = np.unique(rows["latent"].to_numpy(dtype=np.int64))
    row = np.searchsorted(numbers, rows["number"].to_numpy(dtype=np.int64))
    column = np.searchsorted(latents, rows["latent"].to_numpy(dtype=np.int64))
    score = np.zeros((len(numbers), len(latents)))
    firing = np.zeros_like(score)
    score[row, column] = rows["score"].to_numpy(dtype=np.float64)
    firing[row, column] = rows["firing"].to_numpy(dtype=np.float64)
    return ScenarioScores(numbers, latents, score, firing, np.bincount(column, minlength=len(latents)))


def read_residuals(
    store: Store, *, site: str, concept: str, split: Split, arm: Arm, baseline: Arm
) -> ResidualDifferences:
    """Return the differences of mean and last residual at a site between two arms, averaged over frames."""
    rows = store.query(
        "scenario_residuals",
        {"site": site, "concept": concept, "split": split.value, "arm": arm.value, "baseline": baseline.value},
    )
    rows = rows[rows.groupby("number")["arm"].transform("nunique") == 2]
    if rows.empty:
        return ResidualDifferences(np.zeros((0, 0)), np.zeros((0, 0)))
    sign = np.where(rows["arm"] == arm.value, 1.0, -1.0)
    _, scenario = np.unique(rows["number"], return_inverse=True)
    frames = np.bincount(scenario) / 2

    def difference(column: str) -> NDArray[np.float64]:
        signed = sign[:, None] * np.stack(list(rows[column])).astype(np.float64)
        total = np.zeros((len(frames), signed.shape[1]))
        np.add.at(total, scenario, signed)
        return total / frames[:, None]

    return ResidualDifferences(mean=difference("mean"), last=difference("last"))


def read_neurons(store: Store, *, site: str) -> NeuronMaxima | None:
    """Return the neurons of all prompts, read beside the SAEs of a site; None where none were read there.

    They lie in the shards alone, and every call reads all of these: once a site, not once a contrast.
    """
    rows = store.query("neuron_maxima", {"site": site, "prompts": store.prompt_shards})
    if rows.empty:
        return None
    concept, split, arm = (rows[name].to_numpy(dtype=np.str_) for name in ("concept", "split", "arm"))
    return NeuronMaxima(
        concept=concept,
        split=split,
        arm=arm,
        scenario=rows["number"].to_numpy(dtype=np.int64),
        frames=rows["frames"].to_numpy(dtype=np.int64),
        largest=np.stack(list(rows["neurons"])),
    )


def neuron_scores(neurons: NeuronMaxima, *, concept: str, split: Split, arm: Arm, baseline: Arm) -> NeuronScores:
    """Return the paired differences of every neuron, on the scenarios and in the order of `read_scores`."""
    own = (neurons.concept == concept) & (neurons.split == split.value)
    signs = np.where(own & (neurons.arm == arm.value), 1.0, 0.0)
    signs -= np.where(own & (neurons.arm == baseline.value), 1.0, 0.0)
    numbers = np.intersect1d(neurons.scenario[signs > 0], neurons.scenario[signs < 0])
    used = np.flatnonzero((signs != 0) & np.isin(neurons.scenario, numbers))
    rows = np.searchsorted(numbers, neurons.scenario[used])
    frames = np.ones(len(numbers))
    frames[rows] = neurons.frames[used]
    total = np.zeros((len(numbers), neurons.largest.shape[1]))
    # One prompt after the other: those of a concept as float64, all at once, would be a second copy.
    for prompt, row in zip(used, rows, strict=True):
        total[row] += signs[prompt] * neurons.largest[prompt]
    return NeuronScores(numbers, total / frames[:, None])


def read_outcomes(store: Store, *, concept: str) -> OutcomePairs:
    """Return the outcome of both arms of each scenario; empty when the concept asks no question."""
    rows = store.query("outcome_scores", {"concept": concept})
    return OutcomePairs(
        rows["concept_value"].to_numpy(dtype=np.float64), rows["control_value"].to_numpy(dtype=np.float64)
    )


def read_fidelity(store: Store, *, sae: str, concept: str = "all") -> FidelityMoments:
    """Return an SAE's reconstruction sums on one concept's prompts, or on all."""
    moments = store.query("fidelity_moments", {"sae": sae, "concept": concept})
    spliced = store.query("fidelity_splice", {"sae": sae, "concept": concept})
    splice = spliced.drop(columns="scenario").sum()
    clusters = spliced.groupby("scenario")[["tokens", "ce", "ce_spliced"]].sum()
    sparsity = store.query("fidelity_sparsity", {"sae": sae, "concept": concept}).iloc[0]
    kept = moments["kept"].to_numpy(dtype=np.float64)
    means = np.stack(list(moments["mean"])).astype(np.float64)
    tokens = float(kept.sum())
    centre = (kept[:, None] * means).sum(axis=0) / tokens
    total = float(moments["sum_squares"].sum()) - tokens * float(centre @ centre)
    return FidelityMoments(
        tokens=int(tokens),
        total_variance=total,
        error=float(moments["error"].sum()),
        cosine=float(moments["cosine"].sum()) / tokens,
        l0_mean=float(sparsity["l0_mean"]),
        l0_p05=float(sparsity["l0_p05"]),
        l0_p95=float(sparsity["l0_p95"]),
        spliced_tokens=int(splice["tokens"]),
        ce=float(splice["ce"]),
        ce_spliced=float(splice["ce_spliced"]),
        ce_ablated=float(splice["ce_ablated"]),
        kl=float(splice["kl"]),
        kl_random=float(splice["kl_random"]),
        clusters=clusters.to_numpy(dtype=np.float64),
    )


def read_densities(store: Store, *, sae: str) -> Densities:
    """Return how often each latent fired on the audited tokens."""
    rows = store.query("feature_density", {"sae": sae})
    return Densities(
        rows["latent"].to_numpy(dtype=np.int64),
        rows["tokens"].to_numpy(dtype=np.int64),
        rows["max"].to_numpy(dtype=np.float64),
    )


def read_owners(store: Store, *, sae: str) -> tuple[tuple[str, int], ...]:
    """Return (concept, latent) for every confirmed or causal feature of an SAE, the strongest first."""
    rows = store.query("feature_owners", {"sae": sae})
    return tuple((str(c), int(n)) for c, n in zip(rows["concept"], rows["latent"], strict=True))


def read_exclusions(store: Store, *, site: str) -> TokenCounts:
    """Return how many token positions were excluded at a site, and why."""
    total, template, outliers, kept = store.query("exclusions", {"site": site}).iloc[0].astype(int)
    return TokenCounts(total=int(total), template=int(template), outliers=int(outliers), kept=int(kept))


def read_contexts(store: Store, *, sae: str, latents: Sequence[int], most: int) -> dict[int, tuple[Context, ...]]:
    """Return held-out prompts in which each latent fires, with token activations: a scenario's strongest prompt only.

    Args:
        store: the evidence.
        sae: whose latents.
        latents: which of them; one that fires in no held-out prompt gets no context.
        most: how many of the strongest to show; after them come one from the middle of the scenarios in which the
            latent fires and one from their last tenth, unless these are among the strongest. 0 asks for no context.
    """
    found: dict[int, tuple[Context, ...]] = dict.fromkeys(latents, ())
    if not found:
        return found
    tops = store.query("card_contexts", {"sae": sae, "latents": list(latents), "most": most})
    activations = read_activations(
        store, sae=sae, wanted=list(zip(tops["latent"].tolist(), tops["prompt"].tolist(), strict=True))
    )
    for latent, prompt, concept, arm, quantile in tops.itertuples(index=False):
        context = Context(str(prompt), str(concept), str(arm), Quantile(quantile), activations[latent, prompt])
        found[int(latent)] = (*found[int(latent)], context)
    return found
