"""Does the method keep its promises? False findings under the null, power at known effects, uniformity of p-values.

    python -m benchmarks.calibration
    python -m benchmarks.calibration --json calibration.json

The data are synthetic, in the likeness of an audit's (`benchmarks/synthetic.py`). Called are the two steps on which
every claim rests, `select` and `confirm`, and the bar of the random directions as `analyse_family` sets it. Baselines,
intervals and the relabelled runs inside an audit decide on no feature and are left out.

- Null: audits in which the arms of each scenario are exchangeable. Every second one has planted effects whose arms were
  then exchanged at random. In at most 5% of the audits may discovery choose anything in a family (one contrast, all
  concepts), and so in at most 5% can anything pass both tests or be confirmed. Because both tests in a row let far less
  through than 5%, the second is measured by itself as well: half as many audits again have effects on discovery, and
  exchanged arms on confirmation. There at most 5% may pass anything.
- Power: the share of planted features that pass both tests, and that exceed the bar besides, beside the d_z that
  `audit/analysis/power.py` says is found with 80% power. The random directions read a residual stream to which the
  planted latents have written, so their bar is that of an audit and not that of noise.
- Uniformity: the Kolmogorov-Smirnov distance of exact p-values of continuous differences from the uniform distribution.

The exit code is 1 if any share of null audits exceeds 5% plus two standard errors. The power is printed as it is.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import sqrt
from pathlib import Path

import click
import numpy as np
from scipy.stats import kstest, kstwo

from audit.analysis.power import detectable_effect
from audit.analysis.signflip import exact_p
from audit.records import Contrast
from benchmarks.auditor import CONFIG, Auditor
from benchmarks.synthetic import Shape

LEVEL = 0.05
EFFECTS = (0.5, 0.75, 1.0, 1.25)
# Before arms are exchanged, null audits have effects of this size.
_HIDDEN_EFFECT = 1.0


class NullKind(StrEnum):
    """Why nothing is there to be found."""

    PURE = "nothing planted"
    EXCHANGED = "arms exchanged"
    NOT_REPLICATED = "exchanged on confirmation"


@dataclass(frozen=True, slots=True)
class NullShare:
    """How many null audits found something in one family.

    Args:
        exceeded: whether more of them did than the level allows, with two standard errors on top (`limit`): chose
            anything, or passed anything where effects are real on discovery.
    """

    contrast: str
    kind: NullKind
    audits: int
    with_selection: int
    with_passing: int
    with_confirmed: int
    limit: float
    exceeded: bool


@dataclass(frozen=True, slots=True)
class Power:
    """What two steps make of planted effects: shares of planted features, and means over audits.

    Args:
        false_discoveries: mean share of false ones among the features that discovery chose (the FDR).
        false_passing, false_confirmed: audits with any such feature that has no effect.
        predicted: the d_z that power.py says is found with 80% power by both tests; None where none is.
        predicted_beyond_bar: the same where the effect must exceed the bar too.
    """

    contrast: str
    concepts: int
    effect: float
    audits: int
    planted: int
    chosen: float
    passing: float
    confirmed: float
    false_discoveries: float
    false_passing: int
    false_confirmed: int
    bar: float
    predicted: float | None
    predicted_beyond_bar: float | None


@dataclass(frozen=True, slots=True)
class Uniformity:
    """KS distance of p-values; `critical` is what uniform ones exceed in 5% of such samples."""

    differences: str
    scenarios: int
    tests: int
    distance: float
    critical: float


def null_share(auditor: Auditor, contrast: Contrast, kind: NullKind, *, audits: int, concepts: int) -> NullShare:
    """Return how often one contrast's family finds something that is not there."""
    counts = np.zeros(3, dtype=np.int64)
    for _ in range(audits):
        texts = auditor.draw(contrast, concepts, effect=0.0 if kind is NullKind.PURE else _HIDDEN_EFFECT)
        flips = None
        if kind is not NullKind.PURE:
            flips = auditor.flips(concepts, discovery=kind is NullKind.EXCHANGED)
        result = auditor.audit(texts, flips, bar=False)
        counts += (result.selected.total > 0, any(map(np.any, result.passing)), any(map(np.any, result.confirmed)))
    limit = LEVEL + 2 * sqrt(LEVEL * (1 - LEVEL) / audits)
    bounded = counts[1] if kind is NullKind.NOT_REPLICATED else counts[0]
    return NullShare(
        contrast=contrast.value,
        kind=kind,
        audits=audits,
        with_selection=int(counts[0]),
        with_passing=int(counts[1]),
        with_confirmed=int(counts[2]),
        limit=limit,
        exceeded=bool(bounded > limit * audits),
    )


def measure_power(auditor: Auditor, contrast: Contrast, *, effect: float, audits: int, concepts: int) -> Power:
    """Return what becomes of planted features of one size, over several audits."""
    planted = auditor.shape.planted
    shares, false, bars, limits = np.zeros(3), np.zeros(3), [], []
    for _ in range(audits):
        result = auditor.audit(auditor.draw(contrast, concepts, effect=effect), None, bar=True)
        real = [one.latents < planted for one in result.selected.concepts]
        every = [np.ones_like(mask) for mask in real]
        steps = (every, result.passing, result.confirmed)
        hits = [sum(int((mask & own).sum()) for mask, own in zip(step, real, strict=True)) for step in steps]
        wrong = [sum(int((mask & ~own).sum()) for mask, own in zip(step, real, strict=True)) for step in steps]
        shares += np.array(hits) / (planted * concepts * audits)
        false += (wrong[0] / max(1, result.selected.total), wrong[1] > 0, wrong[2] > 0)
        bars.append(result.bar)
        limits.append((result.selected.concepts[0].p_limit, CONFIG.alpha / (result.selected.total + 1)))
    discovery, confirmation = (float(value) for value in np.mean(limits, axis=0))

    def predict(bar: float) -> float | None:
        return detectable_effect(
            n_discovery=auditor.shape.discovery,
            n_confirmation=auditor.shape.confirmation,
            p_discovery=discovery,
            p_confirmation=confirmation,
            bar=bar,
        )

    bar = float(np.mean(bars))
    chosen, passing, confirmed = (float(share) for share in shares)
    return Power(
        contrast=contrast.value,
        concepts=concepts,
        effect=effect,
        audits=audits,
        planted=planted * concepts * audits,
        chosen=chosen,
        passing=passing,
        confirmed=confirmed,
        false_discoveries=float(false[0] / audits),
        false_passing=int(false[1]),
        false_confirmed=int(false[2]),
        bar=bar,
        predicted=predict(0.0),
        predicted_beyond_bar=predict(bar),
    )


def measure_uniformity(rng: np.random.Generator, *, tests: int) -> list[Uniformity]:
    """Return the distance from uniform of p-values of normal and of heavy-tailed differences."""
    results = []
    for scenarios in (24, 40):
        for name, values in (
            ("normal", rng.normal(size=(tests, scenarios))),
            ("Student t, 3 degrees", rng.standard_t(3, size=(tests, scenarios))),
        ):
            p = [exact_p(row) for row in values]
            distance = float(kstest(p, "uniform").statistic)
            results.append(Uniformity(name, scenarios, tests, distance, float(kstwo.isf(LEVEL, tests))))
    return results


@click.command()
@click.option("--audits", type=click.IntRange(2), default=200, show_default=True, help="Under the null.")
@click.option("--concepts", type=click.IntRange(1), default=3, show_default=True, help="Of a null audit.")
@click.option("--power-concepts", default="3,24", show_default=True, help="Of audits with effects, by commas.")
@click.option("--planted-concepts", type=click.IntRange(1), default=24, show_default=True, help="An effect, in all.")
@click.option("--effects", default=",".join(map(str, EFFECTS)), show_default=True, help="d_z, by commas.")
@click.option("--tests", type=click.IntRange(10), default=2000, show_default=True, help="For uniformity, each.")
@click.option("--latents", type=click.IntRange(100), default=4608, show_default=True, help="Of the SAE.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the figures.")
def main(
    *,
    audits: int,
    concepts: int,
    power_concepts: str,
    planted_concepts: int,
    effects: str,
    tests: int,
    latents: int,
    seed: int,
    path: Path | None,
) -> None:
    """Measure false findings, power and uniformity."""
    auditor = Auditor(Shape(latents=latents), seed)
    shares = []
    for contrast in Contrast:
        for kind in NullKind:
            share = null_share(auditor, contrast, kind, audits=audits // 2, concepts=concepts)
            shares.append(share)
            print(
                f"null  {contrast.value:<12} {kind.value:<26} audits {share.audits}  chose {share.with_selection}  "
                f"pass both {share.with_passing}  confirmed {share.with_confirmed}  limit {share.limit:.3f}"
                f"{'  EXCEEDED' if share.exceeded else ''}",
                flush=True,
            )
    powers = []
    for count in map(int, power_concepts.split(",")):
        for contrast in Contrast:
            for effect in map(float, effects.split(",")):
                one = measure_power(
                    auditor, contrast, effect=effect, audits=max(1, planted_concepts // count), concepts=count
                )
                powers.append(one)
                print(
                    f"power {one.contrast:<12} {count:>2} concepts  d_z {effect:<5g} chosen {one.chosen:.2f}  "
                    f"pass both {one.passing:.2f}  confirmed {one.confirmed:.2f}  FDR {one.false_discoveries:.3f}  "
                    f"false: pass {one.false_passing}, confirmed {one.false_confirmed} of {one.audits} audits  "
                    f"bar {one.bar:.2f}  80% from {_number(one.predicted)}, beyond the bar "
                    f"{_number(one.predicted_beyond_bar)}",
                    flush=True,
                )
    uniformity = measure_uniformity(auditor.rng, tests=tests)
    for test in uniformity:
        print(
            f"p     {test.differences:<21} {test.scenarios} scenarios  KS {test.distance:.4f}  5% of uniform samples "
            f"exceed {test.critical:.4f}"
        )
    if path is not None:
        figures = {
            "null": [asdict(one) for one in shares],
            "power": [asdict(one) for one in powers],
            "uniformity": [asdict(one) for one in uniformity],
        }
        path.write_text(json.dumps(figures, indent=1))
    sys.exit(int(any(share.exceeded for share in shares)))


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
