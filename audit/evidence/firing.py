"""Read which features fire in which arm or cell of which scenario."""

from __future__ import annotations

import numpy as np

from audit.arrays import FiringUnits
from audit.errors import EvidenceError
from audit.evidence.store import Store


def read_firing_units(store: Store, *, sae: str) -> FiringUnits:
    """Return the units of one SAE by concept or mix, scenario and arm or cell; the outcome question is left out.

    A feature fires in a unit when it fires in any of its prompts: more prompts of a scenario are no more units.

    Raises:
        EvidenceError: no prompt was captured for this SAE.
    """
    rows = store.query("firing_units", {"sae": sae})
    if rows.empty:
        raise EvidenceError(
            item=sae,
            expected="an SAE of this audit with captured prompts",
            found="none",
            hint="Name one that the table sae lists.",
        )
    fired = [np.asarray(own, dtype=np.int64) for own in rows["fired"]]
    return FiringUnits(
        cell=rows["cell"].to_numpy(dtype=np.str_),
        scenario=rows["scenario"].factorize()[0].astype(np.int64),
        tokens=rows["tokens"].to_numpy(dtype=np.int64),
        start=np.concatenate([[0], np.cumsum([len(own) for own in fired])]),
        latent=np.concatenate(fired),
        latents=int(rows["latents"].iloc[0]),
    )
