"""Features in the cells of a mix, on small shards with sums made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audit.arrays import MixScores
from audit.capture.shards import RowBlock, make_shard, write_shard
from audit.evidence.mixes import read_mix
from audit.evidence.store import ACTIVATIONS, Store, create_store
from probes.schema import Cell, Order, Split

CELLS, ORDERS = [cell.value for cell in Cell], [order.value for order in Order]
# Two scenarios with all twelve prompts, numbered by scenario, cell and order; a third lacks its last one.
SCENARIOS = {"x": 4, "y": 6, "z": 9}
PROMPTS = [(s, c, o) for s in SCENARIOS for c in CELLS for o in ORDERS][:-1]
NUMBER = {key: n for n, key in enumerate(PROMPTS)}
# Positions 0 and 7 belong to the template, 1 to 3 to the clause in front, 4 to 6 to the second one.
SECOND_AT = 4
# columns: prompt, position, latent, activation
ROWS = [
    # Order 'ab': what stands before position 4 is A's. Latent 5 fires at the tokens on both sides of the border.
    (NUMBER["x", "11", "ab"], 1, 5, 1.5),
    (NUMBER["x", "11", "ab"], 3, 5, 2.25),
    (NUMBER["x", "11", "ab"], 4, 5, 8.0),
    (NUMBER["x", "11", "ab"], 6, 5, 0.5),
    # Order 'ba': the clause in front is B's.
    (NUMBER["x", "11", "ba"], 1, 5, 1.5),
    (NUMBER["x", "11", "ba"], 2, 5, 3.0),
    (NUMBER["x", "11", "ba"], 4, 5, 0.25),
    (NUMBER["x", "0p", "ba"], 2, 3, 7.0),
    (NUMBER["y", "00", "ab"], 6, 3, 4.0),
    (NUMBER["y", "1p", "ba"], 5, 5, 0.1),
    (NUMBER["y", "1p", "ba"], 6, 5, 0.2),
    # A scenario that lacks a prompt, a prompt of a concept, and one of another mix.
    (NUMBER["z", "11", "ab"], 1, 8, 9.0),
    (100, 1, 5, 9.0),
    (101, 1, 5, 9.0),
]  # fmt: skip


def block(sae: str, rows: list[tuple[int, int, int, float]]) -> RowBlock:
    """Return rows as the capture writes them: by prompt, position and latent."""
    prompt, position, latent, activation = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return RowBlock(
        sae,
        prompt.astype(np.int32),
        position.astype(np.int32),
        latent.astype(np.int32),
        activation.astype(np.float32),
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a folder with the rows of two SAEs and an evidence database over them."""
    (tmp_path / ACTIVATIONS).mkdir()
    other = [(NUMBER["x", "11", "ab"], 1, 5, 64.0)]
    write_shard(tmp_path / ACTIVATIONS, "k1", make_shard([block("s", ROWS), block("t", other)], []))
    with create_store(tmp_path) as store:
        store.insert(
            "scenario",
            [{"scenario": s, "concept": "m", "split": "confirmation", "number": n} for s, n in SCENARIOS.items()]
            + [{"scenario": "n", "concept": "n", "split": "confirmation", "number": 4}],
        )
        prompts = [(n, "m", s, cell, order) for n, (s, cell, order) in enumerate(PROMPTS)]
        prompts += [(100, "m", "x", "concept", "f1"), (101, "n", "n", "11", "ab")]
        store.insert(
            "prompt",
            [
                {"prompt": n, "concept": c, "scenario": s, "split": "confirmation", "arm": a, "frame": f, "text": "t"}
                for n, c, s, a, f in prompts
            ],
        )
        store.insert("clause_start", [{"prompt": n, "position": SECOND_AT} for n in [*range(len(PROMPTS)), 101]])
        store.ingest_shards()
    return tmp_path


def read(bundle: Path, *, sae: str = "s", mix: str = "m", split: Split = Split.CONFIRMATION) -> MixScores:
    """Return what the store says of a mix."""
    with Store(bundle) as store:
        return read_mix(store, mix=mix, sae=sae, split=split)


def values(scores: MixScores, scenario: int, cell: str, order: str) -> tuple[list[float], list[float], list[float]]:
    """Return first, second and largest of latents 3 and 5 in one prompt."""
    place = (CELLS.index(cell), ORDERS.index(order), scores.scenarios.tolist().index(scenario))
    return tuple(part[place].tolist() for part in (scores.first, scores.second, scores.largest))  # type: ignore[return-value]


def test_each_clause_has_its_own_sum_wherever_it_stands(bundle: Path) -> None:
    """Order 'ab': A is 1.5 + 2.25, B is 8 + 0.5. Order 'ba': B is 1.5 + 3, A is 0.25. The maximum is of both."""
    found = read(bundle)
    assert found.latents.tolist() == [3, 5]
    assert values(found, 4, "11", "ab") == ([0, 3.75], [0, 8.5], [0, 8.0])
    assert values(found, 4, "11", "ba") == ([0, 0.25], [0, 4.5], [0, 3.0])


def test_the_clause_that_stands_in_for_b_is_second(bundle: Path) -> None:
    """In front in order 'ba' stands the placebo or the filler; behind stands A, or its filler in order 'ab'."""
    found = read(bundle)
    assert values(found, 4, "0p", "ba") == ([0, 0], [7.0, 0], [7.0, 0])
    assert values(found, 6, "00", "ab") == ([0, 0], [4.0, 0], [4.0, 0])
    first, second, _ = values(found, 6, "1p", "ba")
    assert second == [0, 0]
    # The sum of what was stored: 0.1 and 0.2 as 32-bit floats, to a step of 2^-60.
    assert first[1] == pytest.approx(float(np.float32(0.1)) + float(np.float32(0.2)), abs=2**-59)


def test_nothing_else_is_counted(bundle: Path) -> None:
    """Every activation of complete scenarios is in one clause; a concept's prompt and the other mix are in none."""
    found = read(bundle)
    assert found.scenarios.tolist() == [4, 6]
    assert found.first.shape == (6, 2, 2, 2)
    assert found.first.sum() + found.second.sum() == pytest.approx(28.3, abs=1e-6)
    assert read(bundle, mix="n").first.size == 0


def test_saes_and_splits_are_apart(bundle: Path) -> None:
    """The other SAE has one row; nothing was measured on discovery."""
    other = read(bundle, sae="t")
    assert (other.latents.tolist(), other.first.sum(), other.second.sum()) == ([5], 64.0, 0.0)
    assert other.scenarios.tolist() == [4, 6]
    assert read(bundle, split=Split.DISCOVERY).largest.shape == (6, 2, 0, 0)


def test_a_mix_in_which_nothing_fires_keeps_its_scenarios(bundle: Path) -> None:
    """An SAE without rows gives scenarios and no latents."""
    silent = read(bundle, sae="u")
    assert (silent.scenarios.tolist(), silent.first.shape) == ([4, 6], (6, 2, 2, 0))
