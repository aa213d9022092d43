"""What the statistics of an audit cost: processor seconds of `analyse_family`, peak memory, and how both grow.

    OMP_NUM_THREADS=1 python -m benchmarks.association
    OMP_NUM_THREADS=1 python -m benchmarks.association --part growth --json growth.json

Everything that a concept brings to a family is drawn (`benchmarks/synthetic.py`) in the sizes and sparsity of an audit;
drawing is not timed. A topic has planted effects in 128 of 4,608 latents, about as many as a demonstration audit
chooses, because intervals and lexical verdicts are computed for every chosen feature; a distinction has none.

- Full: every concept under both contrasts; a first SAE with two controls, a second with one.
- Growth: with the number of latents and with the number of concepts, one family with one control. The sizes take turns,
  several rounds long; a size's time is its shortest, printed as a ratio to that of the first.

Times are those of the process, not of the clock: a busy machine disturbs them less. The peak is that of the whole
process, the drawn arrays included.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from audit.analysis.association import FamilyEffects, analyse_family
from audit.analysis.contrast_data import ContrastData, CueScores
from audit.arrays import Confirmation, Discovery, Halves, ResidualDifferences
from audit.config import AnalysisConfig
from audit.records import Contrast, ControlKind
from benchmarks.synthetic import Shape, draw_texts

NEURONS = 1536
_WORDS = 400
# How often a word stands in one text and not in the other: a distinction's texts have the same words.
_WORD_DENSITY = {Contrast.TOPIC: 0.03, Contrast.DISTINCTION: 0.001}
_PLANTED_SHARE = {Contrast.TOPIC: 128 / 4608, Contrast.DISTINCTION: 0.0}
_EFFECT = 0.9
_CONTROLS_BY_SAE = ((ControlKind.RANDOM_DIRECTIONS, ControlKind.FROZEN_DECODER), (ControlKind.RANDOM_DIRECTIONS,))
_GROWTH_LATENTS = (1152, 4608, 18_432)
_GROWTH_CONCEPTS = (6, 12, 24)


@dataclass(frozen=True, slots=True)
class FamilyCost:
    """Processor seconds of one family in the full audit."""

    contrast: str
    sae: int
    controls: int
    live: int
    selected: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Growth:
    """Processor seconds at one size, and as a ratio to the first size of its series."""

    series: str
    size: int
    seconds: float
    ratio: float


def draw_family(
    rng: np.random.Generator, contrast: Contrast, *, latents: int, concepts: int, controls: Sequence[ControlKind]
) -> list[ContrastData]:
    """Return everything that the concepts bring to one family of tests."""
    shape = Shape(latents=latents, planted=round(_PLANTED_SHARE[contrast] * latents))
    bare = Shape(latents=latents, planted=0)
    return [
        ContrastData(
            concept=f"concept-{number}",
            scores=(scores := draw_texts(rng, shape, contrast, effect=_EFFECT if shape.planted else 0.0).scores()),
            controls={kind: draw_texts(rng, bare, contrast).scores() for kind in controls},
            residuals=_residuals(rng, shape),
            neurons=_both(rng.normal(size=(shape.discovery + shape.confirmation, NEURONS)), shape),
            words=_both(_word_differences(rng, shape, contrast), shape),
            cues=CueScores(
                concept=scores.confirmation.data,
                cue=draw_texts(rng, bare, contrast).scores().confirmation.data,
                cue_free=draw_texts(rng, bare, contrast).scores().confirmation.data,
            ),
        )
        for number in range(concepts)
    ]


def _both(rows: NDArray[np.float64], shape: Shape) -> Halves[NDArray[np.float64]]:
    return Halves(Discovery(rows[: shape.discovery]), Confirmation(rows[shape.discovery :]))


def _residuals(rng: np.random.Generator, shape: Shape) -> Halves[ResidualDifferences]:
    def part(n: int) -> ResidualDifferences:
        mean, last = rng.normal(size=(2, n, shape.residual))
        # One direction that tells the arms apart, so that the probes have something to fit.
        mean[:, 0] += 2.0
        return ResidualDifferences(mean, last)

    return Halves(Discovery(part(shape.discovery)), Confirmation(part(shape.confirmation)))


def _word_differences(rng: np.random.Generator, shape: Shape, contrast: Contrast) -> NDArray[np.float64]:
    first, second = rng.poisson(_WORD_DENSITY[contrast], size=(2, shape.discovery + shape.confirmation, _WORDS))
    return np.asarray(first - second, dtype=np.float64)


def measure_full(
    rng: np.random.Generator, *, latents: int, concepts: int, config: AnalysisConfig
) -> tuple[FamilyCost, ...]:
    """Return what each family of a full audit costs, one after the other as an audit does them."""
    costs = []
    for sae, controls in enumerate(_CONTROLS_BY_SAE, start=1):
        for contrast in Contrast:
            data = draw_family(rng, contrast, latents=latents, concepts=concepts, controls=controls)
            seconds, effects = _timed(contrast, data, config)
            live = sum(one.selection.tested for one in effects.concepts)
            selected = sum(len(one.selection.latents) for one in effects.concepts)
            costs.append(FamilyCost(contrast.value, sae, len(controls), live, selected, seconds))
            print(
                f"family  SAE {sae}  {contrast.value:<12} {len(controls)} controls  {live:,} tests, {selected:,} chosen"
                f"  {seconds:.1f} s",
                flush=True,
            )
    return tuple(costs)


def measure_growth(
    rng: np.random.Generator,
    *,
    latents: Sequence[int],
    concepts: Sequence[int],
    rounds: int,
    config: AnalysisConfig,
) -> tuple[Growth, ...]:
    """Return how the cost of one topic grows: with latents at the smallest number of concepts, and with concepts.

    Args:
        rng: source of the data, drawn once a size.
        latents: numbers of latents.
        concepts: numbers of concepts, at the second number of latents.
        rounds: turns that each size takes.
        config: counts.
    """
    middle = latents[min(1, len(latents) - 1)]
    sizes = [("latents", m, m, min(concepts)) for m in latents] + [("concepts", c, middle, c) for c in concepts]
    best = [float("inf")] * len(sizes)
    data = [
        draw_family(rng, Contrast.TOPIC, latents=m, concepts=c, controls=_CONTROLS_BY_SAE[1]) for _, _, m, c in sizes
    ]
    for _ in range(rounds):
        for place, family in enumerate(data):
            best[place] = min(best[place], _timed(Contrast.TOPIC, family, config)[0])
    first = {"latents": best[0], "concepts": best[len(latents)]}
    return tuple(
        Growth(series, size, seconds, seconds / first[series])
        for (series, size, _, _), seconds in zip(sizes, best, strict=True)
    )


def _timed(contrast: Contrast, data: Sequence[ContrastData], config: AnalysisConfig) -> tuple[float, FamilyEffects]:
    start = time.process_time()
    effects = analyse_family(contrast, data, config)
    return time.process_time() - start, effects


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@click.command()
@click.option("--part", type=click.Choice(["full", "growth", "all"]), default="all", show_default=True)
@click.option("--latents", type=click.IntRange(100), default=4608, show_default=True, help="Of each SAE, in full.")
@click.option("--concepts", type=click.IntRange(1), default=24, show_default=True, help="In full.")
@click.option("--growth-latents", default=",".join(map(str, _GROWTH_LATENTS)), show_default=True, help="By commas.")
@click.option("--growth-concepts", default=",".join(map(str, _GROWTH_CONCEPTS)), show_default=True, help="By commas.")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Of growth.")
@click.option("--permutations", type=click.IntRange(0), default=200, show_default=True, help="Relabelled runs.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the data.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the figures.")
def main(
    *,
    part: str,
    latents: int,
    concepts: int,
    growth_latents: str,
    growth_concepts: str,
    rounds: int,
    permutations: int,
    seed: int,
    path: Path | None,
) -> None:
    """Measure what association costs."""
    rng, config = np.random.default_rng(seed), AnalysisConfig(permutations=permutations)
    figures: dict[str, object] = {"machine": platform.machine(), "permutations": permutations}
    if part in {"full", "all"}:
        costs = measure_full(rng, latents=latents, concepts=concepts, config=config)
        total, peak = sum(cost.seconds for cost in costs), _peak_mib()
        print(f"full    {concepts} concepts, {latents:,} latents  {total:.1f} s, peak {peak:,.0f} MiB", flush=True)
        figures |= {"full": [asdict(cost) for cost in costs], "full_seconds": total, "full_peak_mib": peak}
    if part in {"growth", "all"}:
        growth = measure_growth(
            rng,
            latents=[int(size) for size in growth_latents.split(",")],
            concepts=[int(size) for size in growth_concepts.split(",")],
            rounds=rounds,
            config=config,
        )
        for one in growth:
            print(f"growth  {one.series:<8} {one.size:>6,}  {one.seconds:6.1f} s  {one.ratio:.2f}")
        figures |= {"growth": [asdict(one) for one in growth], "peak_mib": _peak_mib()}
    if path is not None:
        path.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
