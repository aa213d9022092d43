"""Read what every exact run of the causal tests left, as it was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from audit.evidence.store import Store


@dataclass(frozen=True, slots=True)
class CausalRows:
    """The rows of four tables, in the order in which they were recorded; columns as in `sql/schema.sql`.

    Args:
        interventions: one row a prompt and exact run.
        downstream: one row a scenario, lowered feature and later feature; `fall` is untouched minus changed.
        shams: one row a claim and sham that was run.
        screens: one row a member of the set on which first-order estimates were checked.
    """

    interventions: pd.DataFrame
    downstream: pd.DataFrame
    shams: pd.DataFrame
    screens: pd.DataFrame


def read_causal_rows(store: Store) -> CausalRows:
    """Return the rows of all causal tests of an audit."""
    return CausalRows(
        interventions=store.query("intervention_rows"),
        downstream=store.query("downstream_rows"),
        shams=store.query("sham_rows"),
        screens=store.query("causal_screens"),
    )


def grouped(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Yield the rows of each combination of values, combinations in the order in which they come.

    Integers that may be NULL come as floats.
    """
    for key, part in table.groupby(list(columns), sort=False):
        yield key if isinstance(key, tuple) else (key,), part
