"""Read of one bundle what is compared with another: prompts and their tokens, chosen latents, answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from audit.arrays import AskedOutcomes, LatentScores, TokenRows
from audit.evidence.store import Store
from probes.schema import Arm, Split

IntArray = NDArray[np.int64]


def read_prompt_shapes(store: Store) -> pd.DataFrame:
    """Return a row a prompt: its identity, its disclosed text, and token counts with a hash of all pieces."""
    return store.query("prompt_shapes").set_index("prompt")


def read_losses(store: Store, *, sae: str) -> pd.DataFrame:
    """Return by how much the model's own loss on texts about a concept exceeds that on neutral ones, in nats a token.

    Of a scenario the concept and the control arm are about the concept; its neutral arm tells of something else in the
    same form, so that what any training does to such texts is not in the difference. Of a concept's scenarios those
    were read that fidelity is measured on; the loss is that of the model without SAE.

    Args:
        store: the evidence.
        sae: one whose fidelity was measured; the loss is the same with each.

    Returns:
        column `loss`, float64; index (concept, scenario), of scenarios of which both were read.
    """
    arms = {"concept_arm": Arm.CONCEPT.value, "control_arm": Arm.CONTROL.value, "neutral_arm": Arm.NEUTRAL.value}
    rows = store.query("scenario_losses", {"sae": sae, **arms}).set_index(["concept", "scenario"])
    loss = rows["ce"] / rows["tokens"] - rows["neutral_ce"] / rows["neutral_tokens"]
    return loss.dropna().to_frame("loss")


def read_latent_scores(
    store: Store, *, sae: str, baseline: Arm, wanted: Mapping[str, Sequence[int]]
) -> dict[tuple[str, Split], LatentScores]:
    """Return the paired differences of chosen latents of each concept, on both splits.

    Args:
        store: the evidence.
        sae: whose latents.
        baseline: the arm that the concept arm is compared with.
        wanted: of each concept, which latents, ascending.
    """
    pairs = [(concept, latent) for concept, latents in wanted.items() for latent in latents]
    rows = store.query(
        "latent_scores",
        {
            "sae": sae,
            "baseline": baseline.value,
            "concepts": [concept for concept, _ in pairs],
            "latents": [latent for _, latent in pairs],
        },
    )
    parts = dict(iter(rows.groupby(["concept", "split"], sort=False)))
    found = {}
    for concept, latents in wanted.items():
        asked = np.asarray(latents, dtype=np.int64)
        for split in Split:
            where = {"concept": concept, "split": split.value, "arm": Arm.CONCEPT.value, "baseline": baseline.value}
            numbers = store.query("scenario_numbers", where)["number"].to_numpy(dtype=np.int64)
            score = np.zeros((len(numbers), len(asked)))
            if (own := parts.get((concept, split.value))) is not None:
                own = own[own["number"].isin(numbers)]
                row = np.searchsorted(numbers, own["number"].to_numpy(dtype=np.int64))
                column = np.searchsorted(asked, own["latent"].to_numpy(dtype=np.int64))
                score[row, column] = own["score"].to_numpy(dtype=np.float64)
            found[concept, split] = LatentScores(numbers, asked, score)
    return found


def read_asked_outcomes(store: Store, *, concept: str) -> AskedOutcomes:
    """Return the answers of both arms of each scenario of a concept; empty when it asks no question."""
    rows = store.query("outcome_scores", {"concept": concept})
    return AskedOutcomes(
        rows["number"].to_numpy(dtype=np.int64),
        rows["concept_value"].to_numpy(dtype=np.float64),
        rows["control_value"].to_numpy(dtype=np.float64),
    )


def read_token_rows(store: Store, *, sae: str, prompts: Sequence[int], lengths: Sequence[int]) -> TokenRows:
    """Return the activations of an SAE on whole prompts.

    Args:
        store: the evidence.
        sae: whose activations.
        prompts: their numbers, ascending.
        lengths: of each, how many tokens it has: tokens lie one prompt after the other.
    """
    rows = store.query("token_activations", {"sae": sae, "prompts": list(prompts), "rows": store.row_shards})
    start = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])
    place = np.searchsorted(np.asarray(prompts, dtype=np.int64), rows["prompt"].to_numpy(dtype=np.int64))
    return TokenRows(
        tokens=int(start[-1]),
        token=start[place] + rows["position"].to_numpy(dtype=np.int64),
        latent=rows["latent"].to_numpy(dtype=np.int64),
        activation=rows["activation"].to_numpy(dtype=np.float64),
    )
