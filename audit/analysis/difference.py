"""Paired tests of what changed between two models on the same scenarios: difference, equivalence, or neither.

Two questions are asked of every row, and their answers are not opposites. Is there a difference: an exact sign-flip
test of D_g = new - base over scenarios, Benjamini-Hochberg over all rows. Is there none that matters: two one-sided
t tests, which hold where the 90% interval lies inside the margin (Schuirmann 1987). A row that is inside the margin is
equivalent however surely it differs from zero: a change too small to matter is found in any large sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from audit.analysis.effects import Bootstrap
from audit.analysis.multiplicity import benjamini_hochberg
from audit.analysis.power import detectable_shift
from audit.analysis.signflip import flip_test
from audit.arrays import Confirmation
from audit.records import DiffMargins, Estimate, Verdict

FloatArray = NDArray[np.float64]

# What differs by less than rounding of float32 activations is no difference.
_ROUNDING = 1e-7
_MOST_EFFECT = 5.0


@dataclass(frozen=True, slots=True)
class PairedValues:
    """What one row measured on both models: (n,) each, one value a scenario.

    Args:
        scale: what the margin is a multiple of; None where there is none.
        credits: whether the values are credits of a paired AUROC: 0, a half or 1.
        identical: of credits, whether the scores behind them are the same numbers on both models.
    """

    base: FloatArray
    new: FloatArray
    scale: float | None
    credits: bool = False
    identical: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """What the tests say of one row, in its own unit; see `DifferenceRow`."""

    difference: Estimate
    low_90: float
    high_90: float
    margin: float | None
    p_value: float
    q_value: float
    detectable: float | None
    n_moved: int
    verdict: Verdict
    reason: str


def stricter_spread(base: FloatArray, new: FloatArray) -> float | None:
    """Return the smaller of two standard deviations over scenarios, or None where either is zero.

    The smaller one: a new model that scatters more must not widen the margin that it is judged by, and the verdict must
    be the same whichever of the two is called new.
    """
    if min(len(base), len(new)) < 2:
        return None
    smaller = min(float(base.std(ddof=1)), float(new.std(ddof=1)))
    return smaller if smaller > _ROUNDING * max(float(np.abs(base).max()), float(np.abs(new).max()), 1e-12) else None


def compare_rows(
    rows: Sequence[PairedValues], margins: DiffMargins, *, floors: Sequence[float | None]
) -> tuple[Compared, ...]:
    """Return the verdict of every row; all of them are one family of tests.

    Args:
        rows: at least one scenario each; rows need not have the same number.
        margins: the limits.
        floors: of each row, the largest difference that noise alone made; None where it was not measured.
    """
    p = np.ones(len(rows))
    estimates: dict[int, Estimate] = {}
    intervals: dict[int, tuple[float, float]] = {}
    for n, credits_, places in _alike(rows):
        differences = np.stack([_difference(rows[place]) for place in places], axis=1)
        p[places] = flip_test(differences).p
        bootstrap = Bootstrap.draw(n, resamples=margins.bootstrap, seed=margins.seed)
        estimates |= dict(zip(places, bootstrap.means(Confirmation(differences)), strict=True))
        inside = _resampled(differences, bootstrap, margins) if credits_ else _t_interval(differences, margins)
        intervals |= dict(zip(places, inside, strict=True))
    q = benjamini_hochberg(p)
    # What a further row like the weakest rejected one would have had to reach.
    p_limit = margins.fdr_q * max(int((q <= margins.fdr_q).sum()), 1) / max(len(rows), 1)
    return tuple(
        _judge(row, estimates[n], intervals[n], p=float(p[n]), q=float(q[n]), p_limit=p_limit, floor=floor, own=margins)
        for n, (row, floor) in enumerate(zip(rows, floors, strict=True))
    )


@dataclass(frozen=True, slots=True)
class Shift:
    """How far some rows moved together.

    Args:
        mean_square: of their effects, in squared standard deviations, sampling included.
        excess: the root of what is left of it without the part that sampling explains.
    """

    mean_square: float
    excess: float


def shift_of(rows: Sequence[PairedValues]) -> Shift | None:
    """Return how far some rows moved together; None where no row has a scale.

    Effects are mean differences in standard deviations; beyond 5 they count as 5, so that one row with next to no
    spread does not speak for all. An excess of 0 is all that sampling explains.
    """
    squares, sampling = [], []
    for row in rows:
        if row.scale is not None and len(row.base) > 1:
            difference = _difference(row) / row.scale
            error = float(difference.std(ddof=1)) / sqrt(len(difference))
            squares.append(min(abs(float(difference.mean())), _MOST_EFFECT) ** 2)
            sampling.append(min(error, _MOST_EFFECT) ** 2)
    if not squares:
        return None
    return Shift(float(np.mean(squares)), sqrt(max(float(np.mean(np.subtract(squares, sampling))), 0.0)))


def _difference(row: PairedValues) -> FloatArray:
    difference = row.new - row.base
    reach = _ROUNDING * np.maximum(np.abs(row.new), np.abs(row.base))
    return np.where(np.abs(difference) <= reach, 0.0, difference)


def _alike(rows: Sequence[PairedValues]) -> list[tuple[int, bool, list[int]]]:
    """Return the places of rows with the same number of scenarios and kind of interval."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault((len(row.base), row.credits), []).append(place)
    return [(n, credits_, places) for (n, credits_), places in groups.items()]


def _t_interval(differences: FloatArray, margins: DiffMargins) -> list[tuple[float, float]]:
    n = len(differences)
    mean = differences.mean(axis=0)
    if n < 2:
        return [(-np.inf, np.inf) for _ in mean]
    reach = student.isf(margins.tost_alpha, n - 1) * differences.std(axis=0, ddof=1) / sqrt(n)
    return [(float(low), float(high)) for low, high in zip(mean - reach, mean + reach, strict=True)]


def _resampled(differences: FloatArray, bootstrap: Bootstrap, margins: DiffMargins) -> list[tuple[float, float]]:
    """Return percentile intervals of mean differences of credits, never narrower than chance allows at n scenarios.

    Where k of n scenarios moved, all others may be luck: the bootstrap of no movement is a point, and a point proves
    nothing. So each end lies at least as far from the mean as the share of moves that n scenarios without one admit.
    """
    draws = bootstrap.shares(Confirmation(differences))
    low, high = np.quantile(draws, (margins.tost_alpha, 1 - margins.tost_alpha), axis=0)
    mean = differences.mean(axis=0)
    unseen = 1 - margins.tost_alpha ** (1 / len(differences))
    low, high = np.minimum(low, mean - unseen), np.maximum(high, mean + unseen)
    return [(float(one), float(other)) for one, other in zip(low, high, strict=True)]


def _judge(
    row: PairedValues,
    estimate: Estimate,
    interval: tuple[float, float],
    *,
    p: float,
    q: float,
    p_limit: float,
    floor: float | None,
    own: DiffMargins,
) -> Compared:
    differences = _difference(row)
    n = len(differences)
    if row.credits and row.identical:
        interval = (0.0, 0.0)
    margin = own.auroc if row.credits else None if row.scale is None else own.scenario_sd * row.scale
    least = detectable_shift(n, p_limit)
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    verdict, reason = _verdict(
        interval, margin, q=q, shift=abs(estimate.value), floor=floor, few=n < own.least_scenarios, margins=own
    )
    return Compared(
        difference=estimate,
        low_90=interval[0],
        high_90=interval[1],
        margin=margin,
        p_value=p,
        q_value=q,
        detectable=None if least is None else least * spread,
        n_moved=int((differences != 0).sum()),
        verdict=verdict,
        reason=reason,
    )


def _verdict(
    interval: tuple[float, float],
    margin: float | None,
    *,
    q: float,
    shift: float,
    floor: float | None,
    few: bool,
    margins: DiffMargins,
) -> tuple[Verdict, str]:
    # The same numbers on every scenario are inside any margin.
    inside = interval == (0.0, 0.0) if margin is None else -margin < interval[0] and interval[1] < margin
    if inside and not few:
        return Verdict.EQUIVALENT, "the 90% interval is inside the margin"
    if q <= margins.fdr_q and (floor is None or shift > floor):
        return Verdict.CHANGED, f"q {q:.2g} is within {margins.fdr_q:g}"
    if q <= margins.fdr_q:
        return Verdict.INCONCLUSIVE, "the difference is no larger than what noise made of the base model"
    if few:
        return Verdict.INCONCLUSIVE, f"fewer than {margins.least_scenarios} scenarios"
    if margin is None:
        return Verdict.INCONCLUSIVE, "no spread over scenarios on one of the models, so no margin"
    return Verdict.INCONCLUSIVE, "no difference was shown, and the 90% interval is not inside the margin"
