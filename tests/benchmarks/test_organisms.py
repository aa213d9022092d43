"""The benchmark of organisms: the audit that it makes, and how it reads a comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.differences.comparing import compare_bundles
from audit.progress import Silent
from audit.records import DiffMargins
from benchmarks.organisms import SETS, audit_config, line, organisms_of, outcome, suite_folders
from probes.loader import load_suites
from probes.organism_files import organism_names, shipped_organism
from tests.differences_making import Edit, Version, opened

RECORD = {"tokens": 8192, "steps": 32, "loss_before": 3.9, "loss_after": 2.9}


@pytest.mark.parametrize("chosen", sorted(SETS))
def test_six_concepts_of_three_domains_are_asked(chosen: str, tmp_path: Path) -> None:
    """Five of them are planted, all with all their scenarios; a second call copies nothing."""
    concepts = SETS[chosen]
    folders = suite_folders(concepts, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert suite_folders(concepts, tmp_path) == folders
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == kept
    suites = load_suites(audit_config("default", folders).probes.suites)
    asked = {concept.id for suite in suites for concept in suite.concepts}
    assert asked == {concept for own in concepts.values() for concept in own}
    planted = [shipped_organism(name).concept for name in organisms_of(concepts)]
    assert len(set(planted[:5]) & asked) == 5
    assert planted[5:] == [None] * 5
    assert {len(concept.scenarios) for suite in suites for concept in suite.concepts} == {64}
    assert [len(suite.frames) for suite in suites] == [1, 1, 1]
    assert not any(suite.mixes for suite in suites)


def test_every_organism_is_of_a_set() -> None:
    """No concept is asked in two sets."""
    assert {name for concepts in SETS.values() for name in organisms_of(concepts)} == {*organism_names()}
    asked = [concept for concepts in SETS.values() for own in concepts.values() for concept in own]
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("edited", ["dosing_error", "insider_trading"])
def test_the_rank_is_that_of_the_planted_concept(edited: str, tmp_path: Path) -> None:
    """A change in one concept: its organism is ranked first, not the other; of a neutral one it is an alarm."""
    latent = {"dosing_error": 2, "insider_trading": 9}[edited]
    base = opened(tmp_path / "base", Version())
    new = opened(tmp_path / "new", Version(edits=(Edit(latent, 1.2, 0.5),)))
    result = compare_bundles(base, new, margins=DiffMargins(), progress=Silent())
    for name in ("dosing_error", "insider_trading"):
        found = outcome(shipped_organism(name), RECORD, result, wall_s=1.0)
        assert (found.rank == 1) == (name == edited)
        assert (found.verdict == "changed") == (name == edited)
        assert found.first == edited
    neutral = outcome(shipped_organism("gardening"), RECORD, result, wall_s=1.0)
    assert neutral.rank is None
    assert neutral.changed == (edited,)
    assert neutral.outlying == tuple(part.id for part in result.concepts if part.outlying) == (edited,)
    assert f"1 changed, outlying: {edited}" in line(neutral)
