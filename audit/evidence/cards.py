"""Read what labels and selectivity of feature cards need: a query or two for all cards of an SAE together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from audit.arrays import FloatArray, TokenUse, TopicScores
from audit.evidence.store import Store
from probes.schema import Split


def read_topic_scores(store: Store, *, sae: str, latents: Sequence[int]) -> tuple[TopicScores, ...]:
    """Return the topic contrast of some latents on every concept that has scenarios in both splits, by concept id."""
    scenarios = store.query("topic_scenarios")
    rows = store.query("topic_scores", {"sae": sae, "latents": list(latents)})
    column = {latent: n for n, latent in enumerate(latents)}

    def table(concept: str, split: Split) -> FloatArray:
        numbers = _part(scenarios, concept, split)["number"].to_numpy(dtype=np.int64)
        own = _part(rows, concept, split)
        own = own[own["number"].isin(numbers)]
        score = np.zeros((len(numbers), len(latents)))
        where = np.searchsorted(numbers, own["number"].to_numpy(dtype=np.int64))
        score[where, [column[int(latent)] for latent in own["latent"]]] = own["score"].to_numpy(dtype=np.float64)
        return score

    found = [
        TopicScores(concept, table(concept, Split.DISCOVERY), table(concept, Split.CONFIRMATION))
        for concept in scenarios["concept"].unique().tolist()
    ]
    return tuple(scores for scores in found if len(scores.discovery) and len(scores.confirmation))


def read_token_use(store: Store, *, sae: str, latents: Sequence[int]) -> TokenUse | None:
    """Return on which token pieces some latents fire, or None when the texts of every suite are withheld."""
    counts = store.query("token_counts")
    if counts.empty:
        return None
    rows = store.query("token_use", {"sae": sae, "latents": list(latents), "rows": store.row_shards})
    counts["piece"], rows["piece"] = counts["piece"].map(_fold), rows["piece"].map(_fold)
    pieces = tuple(sorted(set(counts["piece"])))
    row, column = ({value: n for n, value in enumerate(values)} for values in (latents, pieces))
    confirmation = rows[rows["split"] == Split.CONFIRMATION.value]
    discovery = rows[rows["split"] == Split.DISCOVERY.value]

    def table(part: pd.DataFrame, name: str) -> FloatArray:
        total = np.zeros((len(row), len(column)))
        at = [row[int(latent)] for latent in part["latent"]], [column[piece] for piece in part["piece"]]
        np.add.at(total, at, part[name].to_numpy(dtype=np.float64))
        return total

    held_out = counts[counts["split"] == Split.CONFIRMATION.value]
    tokens: NDArray[np.int64] = np.zeros(len(pieces), dtype=np.int64)
    np.add.at(tokens, [column[piece] for piece in held_out["piece"]], held_out["tokens"].to_numpy(dtype=np.int64))
    return TokenUse(pieces, table(discovery, "mass"), table(confirmation, "fired").astype(np.int64), tokens)


def _part(rows: pd.DataFrame, concept: str, split: Split) -> pd.DataFrame:
    return rows[(rows["concept"] == concept) & (rows["split"] == split.value)]


def _fold(piece: str) -> str:
    # A piece of blanks only stays what it is: it would have no name.
    return piece.strip().casefold() or piece
