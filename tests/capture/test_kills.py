"""A capture that is killed anywhere and run again gives what an undisturbed one gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 20


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what `kill_and_resume` did and found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.capture.kill_and_resume", tmp_path_factory.mktemp("kills"), str(KILLS), "11"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def test_twenty_kills_give_twenty_equal_digests(told: Any) -> None:
    """SIGKILL at a random moment, resumed: content and file names are those of the undisturbed run."""
    assert len(told["random"]) == KILLS
    for run in told["random"]:
        assert {"digest": run["digest"], "names": run["names"]} == told["whole"]


def test_the_kills_hit_all_stages_of_the_run(told: Any) -> None:
    """Kills before the first shard or after the last one would prove nothing."""
    shards = [run["shards"] for run in told["random"]]
    assert len(set(shards)) > 5
    assert sum(0 < count < told["jobs"] for count in shards) > KILLS // 2
    assert min(shards) < told["jobs"] / 3
    assert max(shards) > told["jobs"] * 2 / 3


def test_nothing_half_written_has_a_final_name(told: Any) -> None:
    """After each kill, every file under a final name is, byte for byte, that of the undisturbed run."""
    for state in [*told["random"], *told["writes"]["states"]]:
        assert state["half_written"] == []


def test_a_kill_in_the_middle_of_a_write_leaves_nothing_in_the_end(told: Any) -> None:
    """Killed in its second shard until it is finished: every life adds a shard, the leftovers are gone at the end."""
    states = told["writes"]["states"]
    assert [state["shards"] for state in states] == list(range(1, told["jobs"]))
    assert all(state["unfinished"] == 1 for state in states)
    assert {"digest": told["writes"]["digest"], "names": told["writes"]["names"]} == told["whole"]
    assert not [name for name in told["whole"]["names"] if name.startswith(".")]
