"""Kill a capture with SIGKILL again and again and resume it; `test_kills` runs this in a process of its own.

A process that has imported and loaded everything forks a child for each capture, so that a kill costs milliseconds.
Forking is safe here because nothing in this process has started a thread: it is run with one OpenMP thread.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from audit.capture.jobs import Job, LocalExecutor, capture, plan_jobs
from audit.capture.prompts import tokenise
from audit.capture.recipe import ControlRecipe, InstrumentRecipe, Recipe
from audit.capture.shards import content_digest, is_complete
from audit.capture.sites import Site, SiteKind
from audit.config import ModelConfig, PromptFormat
from tests.capture.conftest import save_model
from tests.capture.test_runner import TEXTS, prompt
from tests.capture.test_sae import write_sae

BATCH_TOKENS = 24
SITE = Site(SiteKind.RESID_POST, 1)
_POLL_S = 0.002


class Capture:
    """A small capture that child processes run into a folder."""

    def __init__(self, place: Path) -> None:
        sae = write_sae(place / "sae", site=str(SITE))
        model = ModelConfig(source=str(save_model(place / "model", "llama")))
        self.local: LocalExecutor = Recipe(
            model,
            (InstrumentRecipe(str(sae), 1.0, ControlRecipe(5, torch.zeros(32), torch.zeros(32))),),
            {SITE: 1e9},
            seed=3,
        ).build()
        items = [prompt(n, f"{n} {text}") for n, text in enumerate(TEXTS * 4)]
        sequences = [tokenise(self.local.model, item, PromptFormat.CHAT) for item in items]
        self.jobs: tuple[Job, ...] = plan_jobs(
            self.local.model, self.local.stations, sequences, batch_tokens=BATCH_TOKENS
        )

    def start(self, folder: Path, *, before: Callable[[], None] = lambda: None) -> int:
        """Return the id of a new process that captures into a folder and ends."""
        folder.mkdir(exist_ok=True)
        if child := os.fork():
            return child
        # Whatever happens, the child must not go on with the parent's work.
        try:
            before()
            capture(self.jobs, self.local, folder=folder)
            os._exit(0)
        finally:
            os._exit(1)

    @staticmethod
    def end(child: int) -> int:
        """Wait for a process and return its exit code, or minus the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def finish(self, folder: Path) -> None:
        """Capture undisturbed."""
        if self.end(self.start(folder)) != 0:
            raise RuntimeError("a capture that nobody killed failed")

    def finished(self, folder: Path) -> int:
        """Return how many shards are whole."""
        return sum(is_complete(folder, job.key) for job in self.jobs)


def die_in_write(number: int) -> Callable[[], None]:
    """Return what makes a process kill itself in its n-th write, when the data has no final name yet."""

    def arm() -> None:
        left = [number]
        sync = os.fsync

        def fsync(handle: int) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(handle)

        os.fsync = fsync

    return arm


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file that carries its final name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def state(work: Capture, folder: Path, whole: dict[str, bytes]) -> dict[str, Any]:
    """Return what a kill left behind."""
    found = contents(folder)
    return {
        "shards": work.finished(folder),
        "half_written": sorted(name for name, data in found.items() if whole.get(name) != data),
        "unfinished": sum(path.name.startswith(".") for path in folder.iterdir()),
    }


def result(folder: Path) -> dict[str, Any]:
    """Return what a finished capture holds."""
    return {"digest": content_digest(folder), "names": sorted(path.name for path in folder.iterdir())}


def at_random_points(work: Capture, place: Path, whole: dict[str, bytes], *, kills: int, seed: int) -> list[Any]:
    """Kill captures at random moments of their run and resume each; captures that were faster do not count.

    A moment is a number of finished shards and a part of the time that a shard takes: that a machine is busy with other
    things does not move it.
    """
    began = time.monotonic()
    work.finish(place / "timed")
    shard_s = (time.monotonic() - began) / len(work.jobs)
    moments = random.Random(seed)  # noqa: S311 - nothing secret
    told: list[Any] = []
    for number in range(5 * kills):
        folder = place / f"random{number}"
        child = work.start(folder)
        shards, rest_s = moments.randrange(len(work.jobs)), moments.uniform(0, shard_s)
        while work.finished(folder) < shards:
            time.sleep(_POLL_S)
        time.sleep(rest_s)
        os.kill(child, signal.SIGKILL)
        if work.end(child) != -signal.SIGKILL:
            continue
        left = state(work, folder, whole)
        work.finish(folder)
        told.append(left | result(folder))
        if len(told) == kills:
            break
    return told


def in_the_second_shard(work: Capture, folder: Path, whole: dict[str, bytes]) -> dict[str, Any]:
    """Kill one capture in its third or fourth write, resume it, kill it again there, until it is finished."""
    states: list[Any] = []
    # A shard has two files: the third write is the second shard's rows, the fourth its prompts.
    while (code := work.end(work.start(folder, before=die_in_write(3 + len(states) % 2)))) == -signal.SIGKILL:
        states.append(state(work, folder, whole))
    if code != 0:
        raise RuntimeError("a capture failed by itself")
    return {"states": states} | result(folder)


def main(place: Path, kills: int, seed: int) -> None:
    """Print as JSON what kills did."""
    torch.set_num_threads(1)
    work = Capture(place)
    work.finish(place / "whole")
    whole = contents(place / "whole")
    told = {
        "jobs": len(work.jobs),
        "whole": result(place / "whole"),
        "random": at_random_points(work, place, whole, kills=kills, seed=seed),
        "writes": in_the_second_shard(work, place / "writes", whole),
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
