"""Firing units on a small store with known answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from audit.arrays import FiringUnits
from audit.errors import EvidenceError
from audit.evidence.firing import read_firing_units
from audit.evidence.store import Store, create_store

SAE = "s"
OTHER = "t"
# prompt: concept or mix, scenario, arm or cell, frame, kept tokens at the SAE's site, what fires
PROMPTS = {
    0: ("c", "b", "concept", "f1", 5, [7, 3]),
    1: ("c", "b", "concept", "f2", 8, [7, 9]),
    2: ("c", "a", "control", "f1", 6, [2]),
    3: ("c", "a", "concept", "f1", 4, []),
    4: ("c", "a", "concept", "outcome", 99, [1]),
    5: ("m", "x", "both", "ab", 11, [4]),
    6: ("m", "x", "both", "ba", 10, [0, 4]),
}
Prompt = tuple[str, str, str, str, int, Sequence[int]]


def make(folder: Path, prompts: dict[int, Prompt]) -> Path:
    """Return a folder with these prompts; a second SAE at another site fires as latent 8 everywhere."""
    with create_store(folder) as store:
        store.insert(
            "sae",
            [
                {"sae": sae, "site": site, "target": site, "role": "instrument", "latents": size, "digest": "x"}
                for sae, site, size in ((SAE, "site", 10), (OTHER, "later", 20))
            ],
        )
        for n, (concept, scenario, arm, frame, kept, latents) in prompts.items():
            text = {"concept": concept, "scenario": scenario, "split": "discovery", "arm": arm, "frame": frame}
            store.insert("prompt", [{"prompt": n, **text, "text": "t"}])
            counts = {"tokens": 120, "content": 110, "outliers": 0}
            moments = {"mean": [0.0], "last": [0.0], "sum_squares": 1.0}
            store.insert(
                "residual",
                [
                    {"prompt": n, "site": site, "kept": number, **counts, **moments}
                    for site, number in (("site", kept), ("later", 1))
                ],
            )
            fired = [(SAE, latent) for latent in latents] + [(OTHER, 8)]
            store.insert(
                "prompt_feature",
                [{"prompt": n, "sae": sae, "latent": latent, "max": 1.0, "positions": 1} for sae, latent in fired],
            )
    return folder


def read(folder: Path, sae: str = SAE) -> FiringUnits:
    """Return the units of an SAE."""
    with Store(folder) as store:
        return read_firing_units(store, sae=sae)


def plain(units: FiringUnits) -> list[tuple[str, int, int, list[int]]]:
    """Return each unit's cell, scenario, tokens and latents."""
    latents = [units.latent[a:b].tolist() for a, b in zip(units.start[:-1], units.start[1:], strict=True)]
    return list(zip(units.cell.tolist(), units.scenario.tolist(), units.tokens.tolist(), latents, strict=True))


def test_a_unit_is_an_arm_of_a_scenario(tmp_path: Path) -> None:
    """By concept, scenario and arm; frames and orders are one; the outcome question is none; silence is a unit too."""
    units = read(make(tmp_path, PROMPTS))
    assert plain(units) == [
        ("c/concept", 0, 4, []),
        ("c/control", 0, 6, [2]),
        ("c/concept", 1, 8, [3, 7, 9]),
        ("m/both", 2, 11, [0, 4]),
    ]
    assert units.latents == 10


def test_each_sae_has_its_own_firings_and_tokens(tmp_path: Path) -> None:
    """Another SAE at another site: its latents, and the tokens that were kept there."""
    units = read(make(tmp_path, PROMPTS), OTHER)
    assert [(tokens, latents) for _, _, tokens, latents in plain(units)] == [(1, [8])] * 4
    assert units.latents == 20


def test_more_prompts_of_a_scenario_change_nothing(tmp_path: Path) -> None:
    """Every prompt once more in two further frames: the same units."""
    more = {
        10 * times + n: (*item[:3], item[3] if item[3] == "outcome" else f"{item[3]}-{times}", *item[4:])
        for n, item in PROMPTS.items()
        for times in (1, 2)
    }
    once, thrice = tmp_path / "once", tmp_path / "thrice"
    once.mkdir()
    thrice.mkdir()
    assert plain(read(make(once, PROMPTS))) == plain(read(make(thrice, PROMPTS | more)))


def test_an_sae_without_prompts_is_an_error(tmp_path: Path) -> None:
    """A name that is none of the audit's SAEs is not an SAE in which nothing fires."""
    with pytest.raises(EvidenceError, match="unknown"):
        read(make(tmp_path, PROMPTS), "unknown")
