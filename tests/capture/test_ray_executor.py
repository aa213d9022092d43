"""The same capture on a real Ray cluster of two workers: the same shards, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import torch

from audit.capture import ray_executor
from audit.capture.jobs import Job, LocalExecutor, capture, plan_jobs
from audit.capture.prompts import TokenisedPrompt, tokenise
from audit.capture.ray_executor import RayExecutor
from audit.capture.recipe import ControlRecipe, InstrumentRecipe, Recipe
from audit.capture.shards import content_digest
from audit.capture.sites import Site, SiteKind
from audit.config import ModelConfig, PromptFormat
from audit.errors import EnvironmentProblem, EvidenceError, ModelUnavailable
from tests.capture.conftest import save_model
from tests.capture.test_runner import TEXTS, prompt
from tests.capture.test_sae import write_sae

BATCH_TOKENS = 24
SITES = (Site(SiteKind.RESID_POST, 1), Site(SiteKind.RESID_POST, 2))


@dataclass(frozen=True)
class Prepared:
    """A capture: what a worker builds it from, its jobs, and the folder into which one process wrote it."""

    recipe: Recipe
    local: LocalExecutor
    sequences: tuple[TokenisedPrompt, ...]
    jobs: tuple[Job, ...]
    folder: Path

    def on_ray(self, build: Callable[[], LocalExecutor], *, workers: int) -> RayExecutor:
        """Return the executor whose workers are built otherwise."""
        return RayExecutor(self.local, build, self.sequences, batch_tokens=BATCH_TOKENS, workers=workers)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Keep one cluster, started as the executor starts it, for all tests of this file."""
    ray = ray_executor._import_ray()
    with ray_executor._connected(ray):
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Return a small llama with two SAEs, their controls and neurons, captured here. Tests must not change it."""
    folder = tmp_path_factory.mktemp("capture")
    saes = [write_sae(folder / f"sae{n}", site=str(site), name=f"small{n}") for n, site in enumerate(SITES)]
    frozen = (None, str(write_sae(folder / "frozen", site=str(SITES[1]), name="frozen")))
    recipe = Recipe(
        ModelConfig(source=str(save_model(folder / "model", "llama"))),
        tuple(
            InstrumentRecipe(str(sae), 1.0, ControlRecipe(5, torch.zeros(32), torch.zeros(32)), frozen=control)
            for sae, control in zip(saes, frozen, strict=True)
        ),
        dict.fromkeys(SITES, 1e9),
        seed=3,
        neurons={SITES[0]: Site(SiteKind.MLP_ACT, 1)},
    )
    local = recipe.build()
    items = [prompt(n, f"{n} {text}") for n, text in enumerate(TEXTS * 10)]
    sequences = tuple(tokenise(local.model, item, PromptFormat.CHAT) for item in items)
    jobs = plan_jobs(local.model, local.stations, sequences, batch_tokens=BATCH_TOKENS)
    assert len(jobs) > 25
    assert [len(station.saes) for station in local.stations] == [2, 3]
    assert [station.neurons for station in local.stations] == [Site(SiteKind.MLP_ACT, 1), None]
    (folder / "local").mkdir()
    capture(jobs, local, folder=folder / "local")
    return Prepared(recipe, local, sequences, jobs, folder / "local")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def name_of(process: psutil.Process) -> str:
    """Return a process's name, nothing when it has ended since it was listed: Ray ends processes of its own."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.parametrize("address", ["no-such-scheme://somewhere", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_unreachable_cluster_is_named(prepared: Prepared, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """The address that was tried is in the error, at once."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(EnvironmentProblem, match=address) as caught:
        next(prepared.on_ray(prepared.recipe.build, workers=1).run(prepared.jobs, say=print))
    assert "RAY_ADDRESS" in caught.value.hint


@pytest.mark.usefixtures("cluster")
def test_two_workers_give_the_shards_of_one_process(prepared: Prepared, tmp_path: Path) -> None:
    """Every byte of every shard is the same, and so is the digest of the content."""
    said: list[str] = []
    executor = prepared.on_ray(prepared.recipe.build, workers=2)
    assert capture(prepared.jobs, executor, folder=tmp_path, say=said.append) == tuple(j.key for j in prepared.jobs)
    assert said == ["capturing with 2 Ray workers"]
    assert contents(tmp_path) == contents(prepared.folder)
    assert content_digest(tmp_path) == content_digest(prepared.folder)


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_loses_nothing(prepared: Prepared, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """SIGKILL to one of two workers after the first shard: its jobs are run again, the digest stays, all is quiet."""
    seen: list[set[int]] = []

    def kill_one(_: int) -> None:
        seen.append({child.pid for child in psutil.Process().children(recursive=True) if "MapWorker" in name_of(child)})
        if len(seen) == 1:
            os.kill(min(seen[0]), signal.SIGKILL)

    capture(prepared.jobs, prepared.on_ray(prepared.recipe.build, workers=2), folder=tmp_path, advance=kill_one)
    assert len(seen) == len(prepared.jobs)
    assert len(seen[0]) == 2
    # The last shards came from the replacement: the killed worker had jobs.
    assert len(seen[-1] - seen[0]) == 1
    assert contents(tmp_path) == contents(prepared.folder)
    assert content_digest(tmp_path) == content_digest(prepared.folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("cluster")
def test_a_worker_with_another_sae_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    """The machine, the SAE and both digests are named; what was finished before stays."""
    finished = sorted(contents(prepared.folder).items())[4:]
    for name, data in finished:
        (tmp_path / name).write_bytes(data)
    source = write_sae(
        tmp_path / "other" / "sae",
        site=str(SITES[1]),
        name="small1",
        change=lambda tensors: tensors["b_enc"].add_(0.01),
    )
    first, second = prepared.recipe.instruments
    other = replace(prepared.recipe, instruments=(first, replace(second, source=str(source))))
    with pytest.raises(EnvironmentProblem, match="SAE small1") as caught:
        capture(prepared.jobs, prepared.on_ray(other.build, workers=1), folder=tmp_path)
    assert caught.value.item.startswith("Ray worker on ")
    assert prepared.local.stations[1].saes[0].record.digest in caught.value.expected
    assert sorted(contents(tmp_path).items()) == finished


@pytest.mark.usefixtures("cluster")
def test_an_error_in_a_worker_arrives_as_itself(prepared: Prepared) -> None:
    """A scenario that keeps no token is told as without Ray, field by field."""
    strict = replace(prepared.recipe, limits=dict.fromkeys(SITES, 1e-6))
    local = strict.build()
    jobs = plan_jobs(local.model, local.stations, prepared.sequences, batch_tokens=BATCH_TOKENS)[:1]
    with pytest.raises(EvidenceError) as here:
        next(local.run(jobs, say=print))
    with pytest.raises(EvidenceError) as there:
        next(replace(prepared, local=local).on_ray(strict.build, workers=1).run(jobs, say=print))
    assert type(there.value) is type(here.value)
    assert str(there.value) == str(here.value)


def ask(prepared: Prepared, build: Callable[[], LocalExecutor], job: Job, **changes: str) -> ray_executor._Answer:
    """Return what a worker in this process answers to one job."""
    ray = ray_executor._import_ray()
    worker = ray_executor._Worker(
        build=build,
        sequences=ray.put(prepared.sequences),
        batch_tokens=BATCH_TOKENS,
        threads=2,
        expected=ray_executor._described(prepared.local) | changes,
    )
    (row,) = worker(pa.table({"number": [job.number], "key": [job.key]})).to_pylist()
    return ray_executor._Answer(**row)


@pytest.mark.usefixtures("cluster")
def test_a_worker_without_the_model_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    """The machine and the missing folder are named."""
    lacking = replace(prepared.recipe, model=ModelConfig(source=str(tmp_path / "nowhere")))
    answer = ask(prepared, lacking.build, prepared.jobs[0])
    assert answer.error is not None
    error = ray_executor._unpacked(answer.error)
    assert type(error) is ModelUnavailable
    assert error.item.startswith("Ray worker on ")
    assert str(tmp_path / "nowhere") in error.item


@pytest.mark.usefixtures("cluster")
def test_a_worker_of_another_version_is_refused(prepared: Prepared) -> None:
    """Another torch may round otherwise."""
    answer = ask(prepared, lambda: prepared.local, prepared.jobs[0], **{"package torch": "2.0.0"})
    assert answer.error is not None
    assert "package torch" in str(ray_executor._unpacked(answer.error))


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_plans_otherwise_says_so(prepared: Prepared) -> None:
    """Whatever was not compared before decides the key: the answer has the worker's own, and no rows."""
    answer = ask(prepared, lambda: prepared.local, replace(prepared.jobs[3], key="0" * 16))
    assert (answer.number, answer.key, answer.rows) == (3, prepared.jobs[3].key, b"")


def test_without_ray_the_extra_is_named(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started, and the command that helps is printed."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentProblem) as caught:
        capture(prepared.jobs, prepared.on_ray(prepared.recipe.build, workers=1), folder=tmp_path)
    assert 'pip install "affidavit[ray]"' in caught.value.hint


def test_finished_work_needs_no_ray(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """When every shard is there, no cluster is asked for."""
    monkeypatch.setitem(sys.modules, "ray", None)
    before = contents(prepared.folder)
    capture(prepared.jobs, prepared.on_ray(prepared.recipe.build, workers=1), folder=prepared.folder)
    assert contents(prepared.folder) == before


@pytest.mark.parametrize(
    ("resources", "workers", "share"),
    [
        ({"CPU": 8.0}, 0, (2, 4.0, 0)),
        ({"CPU": 8.0}, 3, (3, 2.0, 0)),
        ({"CPU": 2.0}, 0, (1, 2.0, 0)),
        ({"CPU": 2.0}, 8, (8, 0.25, 0)),
        ({"CPU": 64.0, "GPU": 4.0}, 0, (4, 1.0, 1)),
        ({"CPU": 64.0, "GPU": 4.0}, 2, (2, 1.0, 1)),
        ({"CPU": 64.0, "GPU": 4.0}, 9, (4, 1.0, 1)),
    ],
)
def test_a_cluster_is_divided(resources: dict[str, float], workers: int, share: tuple[int, float, int]) -> None:
    """One GPU each where there are any; otherwise each worker has its threads' processors, or an equal share."""
    found = ray_executor._share(resources, workers, threads=4)
    assert (found.workers, found.cpus, found.gpus) == share
