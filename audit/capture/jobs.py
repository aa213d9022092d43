"""The batches of a capture as jobs: each has a name made of all that decides its shard, so that none is run twice.

Whoever runs a job, this process or another machine, writes the same shard under the same name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audit.capture import shards
from audit.capture.batches import TokenSequence, make_batches, share_prefix
from audit.capture.halving import Say, run_halved
from audit.capture.model import LoadedModel
from audit.capture.packs import can_pack, make_packs
from audit.capture.runner import Advance, Captured, Readable, Station, run_batch
from audit.errors import EnvironmentProblem


@dataclass(frozen=True, slots=True)
class Job:
    """A batch with the name of its shard and its place in the capture."""

    number: int
    key: str
    batch: Readable


class Executor(Protocol):
    """Whoever runs jobs; it may finish them in any order."""

    def run(self, jobs: Sequence[Job], *, say: Say) -> Generator[tuple[Job, shards.Shard], None, None]:
        """Yield each job with its shard once it is finished; closing the generator ends the work."""


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Runs jobs in this process, one after the other."""

    model: LoadedModel
    stations: tuple[Station, ...]

    def run(self, jobs: Sequence[Job], *, say: Say) -> Generator[tuple[Job, shards.Shard], None, None]:
        """Yield each job with its shard."""
        for job in jobs:
            captured = run_halving(self.model, self.stations, job.batch, say=say)
            yield job, shards.make_shard(captured.rows, captured.moments)


def plan_jobs(
    model: LoadedModel, stations: Sequence[Station], sequences: Sequence[TokenSequence], *, batch_tokens: int
) -> tuple[Job, ...]:
    """Return the batches of a capture, each with the name of its shard.

    Args:
        model: the audited model; it runs once, for the keys and values of the prefix that all sequences share.
        stations: the sites with their SAEs.
        sequences: what to run.
        batch_tokens: tokens that run together, padding included.
    """
    highest = max((site for station in stations for site in station.sites), key=lambda site: site.depth)
    prefix = share_prefix(model, sequences, upto=highest)
    common = [model.record.digest, model.record.dtype]
    for station in stations:
        common += [str(station.site), repr(station.outlier_limit), str(station.neurons)]
        for sae in station.saes:
            target = station.targets.get(sae.record.name, station.site)
            common += [sae.record.name, sae.record.digest, repr(sae.input_scale), str(target)]
    jobs = []
    packing = can_pack(model, sequences, upto=highest, prefix=prefix, pack_tokens=batch_tokens)
    batches: Sequence[Readable] = (
        make_packs(sequences, pack_tokens=batch_tokens, prefix=prefix)
        if packing
        else make_batches(sequences, batch_tokens=batch_tokens, prefix=prefix)
    )
    for number, batch in enumerate(batches):
        key = shards.shard_key([*common, *(f"{s.id}:{s.ids}:{s.content}" for s in batch.prompts)])
        jobs.append(Job(number, key, batch))
    return tuple(jobs)


def capture(
    jobs: Iterable[Job],
    executor: Executor,
    *,
    folder: Path,
    advance: Advance = lambda _: None,
    say: Say = lambda _: None,
) -> tuple[str, ...]:
    """Write a shard for each job; jobs whose shard is already there are not run again.

    Args:
        jobs: what to do.
        executor: who does it.
        folder: where the shards go; it must exist.
        advance: called with the number of sequences finished.
        say: called with one line when a batch did not fit into memory.

    Returns:
        The keys of all shards, in the order of the jobs.

    Raises:
        EvidenceError: the model produced NaN or infinity at a kept position, or a sequence has no such position.
        TooLarge: one sequence alone does not fit into memory.
        EnvironmentProblem: the executor's workers cannot be reached, or have other files.
        OutputError: a shard could not be written.
    """
    planned = tuple(jobs)
    waiting = []
    for job in planned:
        if shards.is_complete(folder, job.key):
            advance(len(job.batch.prompts))
        else:
            waiting.append(job)
    missing = {job.number for job in waiting}
    with contextlib.closing(executor.run(waiting, say=say)) as finished:
        for job, shard in finished:
            shards.write_shard(folder, job.key, shard)
            missing.discard(job.number)
            advance(len(job.batch.prompts))
    if missing:
        raise EnvironmentProblem(
            item="capture",
            expected=f"{len(waiting)} finished batches",
            found=f"{len(missing)} that never came back",
            hint="Run again with the same --out: finished shards are kept.",
        )
    return tuple(job.key for job in planned)


def run_halving(
    model: LoadedModel, stations: Sequence[Station], batch: Readable, *, say: Say = lambda _: None
) -> Captured:
    """Run a batch; when it does not fit into memory run its halves, and say so.

    Raises:
        TooLarge: one sequence alone does not fit.
    """
    parts = run_halved(batch, lambda part: run_batch(model, stations, part), say=say)
    if len(parts) == 1:
        return parts[0]
    return Captured(
        rows=tuple(shards.joined_rows(blocks) for blocks in zip(*(part.rows for part in parts), strict=True)),
        moments=tuple(moment for part in parts for moment in part.moments),
    )
