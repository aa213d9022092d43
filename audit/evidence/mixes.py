"""Read what features do in the cells of a mix of two concepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audit.arrays import FloatArray, MixScores
from audit.evidence.store import Store, Value
from probes.schema import Cell, Order, Split


def read_mix(store: Store, *, mix: str, sae: str, split: Split, latents: Sequence[int] | None = None) -> MixScores:
    """Return what every latent does in the six cells of a mix, both orders; a silent latent is 0 there.

    A scenario without one of its twelve prompts is left out. Where `latents` are given, only these are read.
    """
    where: dict[str, Value] = {"mix": mix, "split": split.value}
    numbers = store.query("mix_scenarios", where)["number"].to_numpy(dtype=np.int64)
    asked: dict[str, Value] = {**where, "sae": sae}
    if latents is None:
        rows = store.query("mix_features", asked)
    else:
        rows = store.query("mix_chosen_features", {**asked, "latents": list(latents)})
    rows = rows[rows["number"].isin(numbers)]
    fired = np.unique(rows["latent"].to_numpy(dtype=np.int64))
    cells = {cell.value: place for place, cell in enumerate(Cell)}
    orders = {order.value: place for place, order in enumerate(Order)}
    place = (
        rows["cell"].map(cells).to_numpy(dtype=np.int64),
        rows["clauses"].map(orders).to_numpy(dtype=np.int64),
        np.searchsorted(numbers, rows["number"].to_numpy(dtype=np.int64)),
        np.searchsorted(fired, rows["latent"].to_numpy(dtype=np.int64)),
    )

    def spread(column: str) -> FloatArray:
        found = np.zeros((len(cells), len(orders), len(numbers), len(fired)))
        found[place] = rows[column].to_numpy(dtype=np.float64)
        return found

    return MixScores(numbers, fired, first=spread("first"), second=spread("second"), largest=spread("largest"))
