"""What co-firing costs: counting joint firings against a self-join in SQL, and the whole test at full size.

    OMP_NUM_THREADS=2 python -m benchmarks.cofiring
    OMP_NUM_THREADS=2 python -m benchmarks.cofiring --part full --latents 65536
    OMP_NUM_THREADS=2 python -m benchmarks.cofiring --part bundle --bundle report.bundle --json cofiring.json

Firings are drawn: rates fall with a power of the feature's rank, change with the length of the scenario, and one
feature in ten follows the one before it. Drawing is not timed.

- Join: joint counts of all pairs by the blocked product and by DuckDB, on the same units, which must agree.
- Full: `co_firing` with the permutations of an audit.
- Bundle: `co_firing` on every SAE of an audit; its decoders are not in the bundle, so cosines are with random rows.

Times are those of all threads of the process, not of the clock: a busy machine disturbs them less. Each measurement has
a process of its own, and the peak is the whole process's, its units included.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import duckdb
import numpy as np
import pyarrow as pa

from audit.analysis.cofiring import co_firing, decoder_cosine
from audit.analysis.firing_blocks import firing_blocks, product
from audit.arrays import FiringUnits
from audit.config import AnalysisConfig, InteractionConfig
from audit.evidence.firing import read_firing_units
from audit.evidence.store import DATABASE, Store

_ARMS = ("concept", "control", "neutral")
_SCENARIOS_PER_CONCEPT = 64
_FALL = 0.7
_HIGHEST_RATE = 0.9
_FOLLOWING = 10
_FOLLOWS = 0.5
_D_MODEL = 576
_MOST_LATENTS_A_DRAW = 1000


@dataclass(frozen=True, slots=True)
class Size:
    """What is drawn: units, latents, and firings a unit, of which the cap on the most frequent features takes some."""

    units: int
    latents: int
    firings: int


@dataclass(frozen=True, slots=True)
class Counting:
    """One way to count joint firings: their sum over pairs (`instances`) and the sum of their squares (`check`)."""

    way: str
    instances: int
    check: int
    seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Cost:
    """`co_firing` on one SAE."""

    sae: str
    units: int
    strata: int
    live: int
    pairs: int
    flagged: int
    flagged_permuted: float
    flagged_naive: int
    read_seconds: float
    seconds: float
    peak_mib: float


def draw_units(size: Size, *, seed: int) -> FiringUnits:
    """Return units of concepts with three arms each; all arms of a scenario have its length."""
    rng = np.random.default_rng(seed)
    scenario = np.arange(size.units) // len(_ARMS)
    tokens = rng.integers(20, 60, scenario[-1] + 1)[scenario]
    arms = np.array(_ARMS)[np.arange(size.units) % len(_ARMS)]
    cell = np.array([f"{s // _SCENARIOS_PER_CONCEPT}/{arm}" for s, arm in zip(scenario, arms, strict=True)])
    rates = (np.arange(size.latents) + 1.0) ** -_FALL
    rates = np.minimum(rates * size.firings / rates.sum(), _HIGHEST_RATE)
    longer = (tokens - tokens.mean()) / tokens.std()
    rows, columns = [], []
    # By parts: all units times all latents of a wide SAE are gigabytes.
    for first in range(0, size.latents, _MOST_LATENTS_A_DRAW):
        own = rates[first : first + _MOST_LATENTS_A_DRAW]
        fires = rng.random((size.units, len(own)), dtype=np.float32) < own * np.exp(
            np.outer(longer, rng.normal(0, 0.2, len(own)))
        ).astype(np.float32)
        followed = fires[:, : len(own) - 1 : _FOLLOWING]
        fires[:, 1::_FOLLOWING] |= followed[:, : fires[:, 1::_FOLLOWING].shape[1]] & (
            rng.random(followed.shape) < _FOLLOWS
        )
        row, column = np.nonzero(fires)
        rows.append(row)
        columns.append(column + first)
    row, latent = np.concatenate(rows), np.concatenate(columns)
    order = np.lexsort((latent, row))
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=size.units))])
    return FiringUnits(cell, scenario, tokens, start, latent[order], size.latents)


def count_by_product(size: Size, *, seed: int) -> Counting:
    """Count joint firings of live features by the blocked product."""
    units = draw_units(size, seed=seed)
    begin = time.process_time()
    blocks = firing_blocks(units).blocks
    instances = check = 0
    for a, first in enumerate(blocks):
        for b, second in enumerate(blocks[a:], start=a):
            counts = product(first.astype(np.float32), second.astype(np.float32))
            kept = np.triu(counts, k=1) if a == b else counts
            instances += int(kept.sum(dtype=np.float64))
            check += int((kept.astype(np.float64) ** 2).sum())
    return Counting("product", instances, check, time.process_time() - begin, _peak_mib())


def count_by_join(size: Size, *, seed: int) -> Counting:
    """Count the same by a self-join in DuckDB, on the same units."""
    units = draw_units(size, seed=seed)
    # Rows of live features over units of comparable scenarios only, as in the product.
    blocks = firing_blocks(units)
    width = blocks.blocks[0].shape[0]
    parts = [(block.tocoo(), blocks.latents[n * width :]) for n, block in enumerate(blocks.blocks)]
    table = pa.table(
        {
            "unit": np.concatenate([block.col for block, _ in parts]),
            "latent": np.concatenate([latents[block.row] for block, latents in parts]),
        }
    )
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.register("rows", table)
        connection.execute("CREATE TABLE firing AS SELECT * FROM rows")
        begin = time.process_time()
        rows = connection.execute(
            "SELECT sum(n)::BIGINT, sum(n * n)::BIGINT FROM (SELECT count(*) AS n FROM firing AS a "
            "INNER JOIN firing AS b ON a.unit = b.unit AND a.latent < b.latent GROUP BY a.latent, b.latent)"
        ).fetchall()
        seconds = time.process_time() - begin
    return Counting("join", int(rows[0][0]), int(rows[0][1]), seconds, _peak_mib())


def measure_drawn(size: Size, *, seed: int) -> Cost:
    """Return the cost of the whole test on drawn units."""
    return _measure(draw_units(size, seed=seed), f"{size.latents:,} latents", read_seconds=0.0)


def measure_bundle(folder: Path, sae: str) -> Cost:
    """Return the cost of the whole test on one SAE of an audit, and of reading its units."""
    begin = time.process_time()
    with Store(folder) as store:
        units = read_firing_units(store, sae=sae)
    return _measure(units, sae, read_seconds=time.process_time() - begin)


def _measure(units: FiringUnits, sae: str, *, read_seconds: float) -> Cost:
    decoder = np.random.default_rng(0).normal(size=(units.latents, _D_MODEL)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    config, analysis = InteractionConfig(), AnalysisConfig()
    begin = time.process_time()
    cosine = decoder_cosine(decoder, sae=sae, latents=units.latents)
    found = co_firing(units, cosine, sae=sae, config=config, fdr_q=analysis.fdr_q, seed=analysis.seed)
    seconds = time.process_time() - begin
    return Cost(
        sae,
        found.units,
        found.strata,
        found.live,
        found.pairs,
        found.flagged,
        found.flagged_permuted,
        found.flagged_naive,
        read_seconds,
        seconds,
        _peak_mib(),
    )


def _alone(measure: Callable[..., Counting | Cost], *arguments: object, **options: object) -> dict[str, object]:
    """Run one measurement in a fresh process: the peak of one must not be that of another."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:
        found = asdict(executor.submit(measure, *arguments, **options).result())
    print("  ".join(f"{k} {v:,.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()), flush=True)
    return found


def _instruments(folder: Path) -> list[str]:
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        rows = connection.execute("SELECT sae FROM sae WHERE role = 'instrument' ORDER BY sae").fetchall()
    return [str(sae) for (sae,) in rows]


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@click.command()
@click.option("--part", type=click.Choice(["join", "full", "bundle", "all"]), default="all", show_default=True)
@click.option("--units", type=click.IntRange(60), default=9400, show_default=True, help="Of the full size.")
@click.option("--latents", type=click.IntRange(50), default=4608, show_default=True, help="Of the full size.")
@click.option("--firings", type=click.IntRange(1), default=800, show_default=True, help="A unit, of the full size.")
@click.option("--join-units", type=click.IntRange(60), default=900, show_default=True, help="Of the join.")
@click.option("--join-latents", type=click.IntRange(50), default=2048, show_default=True, help="Of the join.")
@click.option("--join-firings", type=click.IntRange(1), default=300, show_default=True, help="A unit, of the join.")
@click.option("--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A finished audit.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the drawn units.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the figures.")
def main(
    *,
    part: str,
    units: int,
    latents: int,
    firings: int,
    join_units: int,
    join_latents: int,
    join_firings: int,
    bundle: Path | None,
    seed: int,
    path: Path | None,
) -> None:
    """Measure what co-firing costs."""
    figures: dict[str, object] = {"machine": platform.machine()}
    if part in {"join", "all"}:
        size = Size(join_units, join_latents, join_firings)
        product, join = (_alone(count, size, seed=seed) for count in (count_by_product, count_by_join))
        if (product["instances"], product["check"]) != (join["instances"], join["check"]):
            raise click.ClickException("The product and the join do not count the same.")
        ratios = {f"{name}_ratio": _ratio(join[name], product[name]) for name in ("seconds", "peak_mib")}
        print("  ".join(f"join / product: {name} {value:.1f}" for name, value in ratios.items()))
        figures |= {"product": product, "join": join, **ratios}
    if part in {"full", "all"}:
        figures["full"] = _alone(measure_drawn, Size(units, latents, firings), seed=seed)
    if part == "bundle" or bundle is not None:
        if bundle is None:
            raise click.UsageError("Name the audit with --bundle.")
        figures["bundle"] = [_alone(measure_bundle, bundle, sae) for sae in _instruments(bundle)]
    if path is not None:
        path.write_text(json.dumps(figures, indent=1))


def _ratio(one: object, other: object) -> float:
    assert isinstance(one, float)
    assert isinstance(other, float)
    return one / other


if __name__ == "__main__":
    main()
