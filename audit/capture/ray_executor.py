"""Run the jobs of a capture on Ray: workers on one machine or on many give the shards that one process gives.

A worker loads the model and the SAEs from its own disk and plans the same jobs; only token ids travel to it and only
the bytes of shards travel back, so that no shared file system is needed. Whoever started the run writes them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import pyarrow as pa
import torch
import transformers

from audit import __version__, errors
from audit.capture.batches import TokenSequence
from audit.capture.halving import Say
from audit.capture.jobs import Job, LocalExecutor, plan_jobs
from audit.capture.shards import Shard
from audit.errors import AffidavitError, EnvironmentProblem

# A worker that dies while it loads is replaced so often in a row; one that dies at work, always, and its jobs are run
# again. A job that kills every worker ends the run when nothing else has moved for so long.
_DEATHS_WHILE_LOADING = 3
_STANDSTILL_S = 1800
_ANSWER_WITHIN_S = 20
# One runs while the next one waits at the worker.
_JOBS_PER_WORKER = 2
_COMPUTING = {"affidavit": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
# Read by Ray when it starts: no statistics to its makers, no log lines of its C++ core between the tool's own.
_RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
_RESUME = "Run again with the same --out: finished shards are kept."
_ANSWER = pa.schema(
    [
        ("number", pa.int64()),
        ("key", pa.string()),
        ("rows", pa.large_binary()),
        ("prompts", pa.large_binary()),
        ("said", pa.list_(pa.string())),
        ("error", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Runs jobs on a pool of Ray Data actors; a worker that dies is replaced and its jobs are run again.

    It connects to the cluster of RAY_ADDRESS; without one it starts a cluster on this machine and ends it afterwards.
    Each worker has one GPU where the cluster has any, and its share of the processors otherwise.

    Args:
        local: model and stations of this process; those of every worker must have the same digests.
        build: gives a worker its model and stations. It is pickled: a function or a bound method with plain arguments.
        sequences: all that the jobs were planned from.
        batch_tokens: as the jobs were planned.
        workers: how many; 0 for as many as the cluster has room for.
    """

    local: LocalExecutor
    build: Callable[[], LocalExecutor]
    sequences: tuple[TokenSequence, ...]
    batch_tokens: int
    workers: int = 0

    def run(self, jobs: Sequence[Job], *, say: Say) -> Generator[tuple[Job, Shard], None, None]:
        """Yield each job with its shard, in the order in which the workers finish.

        Raises:
            EnvironmentProblem: Ray is not installed, its cluster cannot be reached or failed, or a worker has another
                model, SAE or version than this process.
            AffidavitError: whatever a worker met, with the same fields.
        """
        if not jobs:
            return
        planned = {job.number: job for job in jobs}
        ray = _import_ray()
        with _connected(ray), contextlib.closing(self._answers(ray, jobs, say=say)) as answers:
            for answer in _translated(ray, answers):
                for line in answer.said:
                    say(line)
                if answer.error is not None:
                    raise _unpacked(answer.error)
                job = planned[answer.number]
                if answer.key != job.key:
                    raise _other(f"shard {answer.number}", expected=job.key, found=answer.key)
                yield job, Shard(answer.rows, answer.prompts)

    def _answers(self, ray: Any, jobs: Sequence[Job], *, say: Say) -> Generator[_Answer, None, None]:  # noqa: ANN401
        share = _share(ray.cluster_resources(), self.workers, threads=torch.get_num_threads())
        say(f"capturing with {share.workers} Ray workers")
        known = ray.put(self.sequences)
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.max_consecutive_actor_init_deaths = _DEATHS_WHILE_LOADING
        context.execution_no_progress_timeout_s = _STANDSTILL_S
        with ray.data.DataContext.current(context):
            waiting = [{"number": job.number, "key": job.key} for job in jobs]
            answers = ray.data.from_items(waiting, override_num_blocks=len(waiting)).map_batches(
                _Worker,
                batch_size=1,
                batch_format="pyarrow",
                fn_constructor_kwargs={
                    "build": self.build,
                    "sequences": known,
                    "batch_tokens": self.batch_tokens,
                    "threads": torch.get_num_threads(),
                    "expected": _described(self.local),
                },
                # From one worker up: a worker for which no machine has room holds up nothing.
                compute=ray.data.ActorPoolStrategy(
                    min_size=1,
                    max_size=share.workers,
                    initial_size=share.workers,
                    max_tasks_in_flight_per_actor=_JOBS_PER_WORKER,
                ),
                num_cpus=share.cpus,
                num_gpus=share.gpus,
            )
        # One block ahead, never all: the shards of a capture may be larger than memory.
        tables = iter(answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1))
        with contextlib.closing(tables):
            for table in tables:
                for row in table.to_pylist():
                    yield _Answer(**row)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a worker sends back for one job: the bytes of its shard, or an error as its class and four fields."""

    number: int
    key: str
    rows: bytes = b""
    prompts: bytes = b""
    said: Sequence[str] = ()
    error: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class _Share:
    """How many workers there are, and what each of them takes of its machine."""

    workers: int
    cpus: float
    gpus: int


class _Worker:
    """One worker's model, SAEs and jobs; what could not be opened is told in the answer to its first job.

    Errors travel as answers: raised in an actor they would arrive wrapped in Ray's own, after retries.
    """

    def __init__(
        self,
        *,
        build: Callable[[], LocalExecutor],
        sequences: Any,  # noqa: ANN401 - a reference to what `ray.put` stored; Ray is optional
        batch_tokens: int,
        threads: int,
        expected: Mapping[str, str],
    ) -> None:
        import ray  # noqa: PLC0415 - optional

        torch.set_num_threads(threads)
        self._error: AffidavitError | None = None
        self._jobs: dict[int, Job] = {}
        try:
            self._local = build()
            _require_same(expected, _described(self._local))
        except AffidavitError as error:
            # Which of many machines lacks the file is half of the message.
            error.item = f"Ray worker on {socket.gethostname()}: {error.item}"
            self._error = error
            return
        planned = plan_jobs(self._local.model, self._local.stations, ray.get(sequences), batch_tokens=batch_tokens)
        self._jobs = {job.number: job for job in planned}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the answer to one job."""
        (wanted,) = batch.to_pylist()
        return pa.Table.from_pylist([asdict(self._answer(wanted["number"], wanted["key"]))], schema=_ANSWER)

    def _answer(self, number: int, key: str) -> _Answer:
        if self._error is not None:
            return _Answer(number, key, error=_packed(self._error))
        job = self._jobs.get(number)
        if job is None or job.key != key:
            return _Answer(number, "none" if job is None else job.key)
        said: list[str] = []
        try:
            ((_, shard),) = self._local.run((job,), say=said.append)
        except AffidavitError as error:
            return _Answer(number, key, said=said, error=_packed(error))
        return _Answer(number, job.key, shard.rows, shard.prompts, said)


def require_ray() -> None:
    """Raise where Ray is not installed, without loading it.

    Raises:
        EnvironmentProblem: it is not.
    """
    if find_spec("ray") is None:
        raise _not_installed("no module named ray")


def _not_installed(found: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        item="capture.executor = ray",
        expected="Ray with Ray Data",
        found=found,
        hint='Install it with: pip install "affidavit[ray]"',
    )


def _import_ray() -> Any:  # noqa: ANN401 - an optional package
    """Return Ray with Ray Data."""
    # Only where the user has not decided otherwise, and before the import: Ray reads them once.
    for name, value in _RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: PLC0415 - optional
        import ray.data  # noqa: PLC0415 - optional
    except ImportError as error:
        raise _not_installed(str(error)) from error
    # What it has to say arrives as an exception, and is told once.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray


@contextlib.contextmanager
def _connected(ray: Any) -> Iterator[None]:  # noqa: ANN401 - an optional package
    """Stay connected to the cluster of RAY_ADDRESS, or to one started here, while the block runs.

    Raises:
        EnvironmentProblem: there is no cluster at that address, or none can be started.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    # A dashboard would be one more server on this machine's network.
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        _require_listener(address)
        with _silent_stderr():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise EnvironmentProblem(
            item=f"Ray cluster at {address}" if address != "local" else "Ray cluster on this machine",
            expected="a cluster that answers",
            found=_first_line(error),
            hint="Check RAY_ADDRESS and that its cluster runs; without RAY_ADDRESS one is started on this machine.",
        ) from error
    # Ray prints each lost worker to stdout, where the tool's result goes; its jobs are run again all the same.
    logs = ray._private.worker  # noqa: SLF001 - there is no public switch
    enabled = getattr(logs, "_worker_logs_enabled", True)
    logs._worker_logs_enabled = False  # noqa: SLF001
    try:
        yield
    finally:
        ray.shutdown()
        logs._worker_logs_enabled = enabled  # noqa: SLF001


def _require_listener(address: str) -> None:
    """Raise OSError when nobody listens at HOST:PORT: Ray itself would try for more than ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_WITHIN_S).close()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep what compiled code writes to stderr away from it. Errors are raised, not printed."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _translated(ray: Any, answers: Iterator[_Answer]) -> Iterator[_Answer]:  # noqa: ANN401 - an optional package
    """Yield the answers; failures of the cluster become errors of this tool, defects in a worker stay what they are."""
    try:
        yield from answers
    except (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException):
        raise
    except (ray.exceptions.RayError, ray.data.exceptions.ExecutionTimeoutError) as error:
        raise EnvironmentProblem(
            item="Ray cluster",
            expected="workers that start and finish their jobs",
            found=_first_line(error),
            hint=f"A worker that the system kills often lacks memory: lower capture.workers. {_RESUME}",
        ) from error


def _share(resources: Mapping[str, float], workers: int, *, threads: int) -> _Share:
    """Return how a cluster is divided.

    Args:
        resources: `CPU` and `GPU` of the whole cluster.
        workers: wanted; 0 for as many as there is room for.
        threads: that each worker computes with.
    """
    gpus = int(resources.get("GPU", 0))
    if gpus:
        return _Share(min(workers or gpus, gpus), 1.0, 1)
    cpus = max(1, int(resources.get("CPU", 1)))
    count = workers or max(1, cpus // threads)
    # Ray takes whole processors, or a part of one.
    return _Share(count, float(cpus // count) if count <= cpus else cpus / count, 0)


def _described(local: LocalExecutor) -> dict[str, str]:
    """Return what must be equal here and at every worker, by the name that an error gives it."""
    # Builds of one version for other devices differ behind the plus sign.
    versions = {f"package {name}": version.partition("+")[0] for name, version in _COMPUTING.items()}
    model = {"model": f"{local.model.record.digest} in {local.model.record.dtype}"}
    saes = {f"SAE {sae.record.name}": sae.record.digest for station in local.stations for sae in station.saes}
    return versions | model | saes


def _require_same(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name in sorted({*expected, *found}):
        here, there = expected.get(name, "none"), found.get(name, "none")
        if here != there:
            raise _other(name, expected=here, found=there)


def _other(item: str, *, expected: str, found: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        item=item,
        expected=f"{expected}, as in the process that started the run",
        found=found,
        hint=f"Give every worker the same model, SAEs, versions and kind of processor or GPU. {_RESUME}",
    )


def _packed(error: AffidavitError) -> list[str]:
    return [type(error).__name__, error.item, error.expected, error.found, error.hint]


def _unpacked(fields: Sequence[str]) -> AffidavitError:
    kind, item, expected, found, hint = fields
    made: AffidavitError = getattr(errors, kind)(item=item, expected=expected, found=found, hint=hint)
    return made


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
