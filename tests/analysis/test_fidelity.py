"""Fidelity records from sums with known answers: FVU, cross-entropy with its interval, colours, parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit.analysis.fidelity import ALL, global_fidelity, part_fidelity
from audit.arrays import Densities, FidelityMoments
from audit.config import FidelityConfig
from audit.records import Colour, Estimate, Fidelity

CONFIG = FidelityConfig()
LATENTS = 10
DENSITIES = Densities(np.array([0, 3, 4]), np.array([100, 101, 1]), np.array([1.0, 2.0, 3.0]))
NO_CLUSTERS = np.zeros((0, 3))
ORDER = list(Colour)


def moments(**changes: object) -> FidelityMoments:
    """Return the sums of 1,000 tokens of variance 2 each, a tenth of it unexplained, nothing spliced."""
    plain = FidelityMoments(
        tokens=1000,
        total_variance=2000.0,
        error=200.0,
        cosine=0.95,
        l0_mean=4.5,
        l0_p05=3.0,
        l0_p95=5.0,
        spliced_tokens=0,
        ce=0.0,
        ce_spliced=0.0,
        ce_ablated=0.0,
        kl=0.0,
        kl_random=0.0,
        clusters=NO_CLUSTERS,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def spliced(clusters: NDArray[np.float64], **changes: object) -> FidelityMoments:
    """Return sums whose totals are those of the clusters; ablation costs 3 nats a token."""
    tokens, ce, ce_spliced = clusters.sum(axis=0)
    sums: dict[str, object] = {"ce_ablated": ce + 3 * tokens, "kl": 0.05 * tokens, "kl_random": 0.1 * tokens}
    return moments(spliced_tokens=int(tokens), ce=ce, ce_spliced=ce_spliced, clusters=clusters, **(sums | changes))


def at(fvu: float, delta_ce: float | None, **changes: object) -> FidelityMoments:
    """Return sums with a given FVU and rise of the cross-entropy."""
    if delta_ce is None:
        return moments(error=fvu, total_variance=1.0, **changes)
    clusters = np.array([[1.0, 0.0, delta_ce]])
    return spliced(clusters, error=fvu, total_variance=1.0, **changes)


def whole(sums: FidelityMoments) -> Fidelity:
    """Return the fidelity over everything."""
    return global_fidelity("sae", sums, DENSITIES, latents=LATENTS, config=CONFIG)


def part(sums: FidelityMoments, overall: Fidelity) -> Fidelity:
    """Return the fidelity on a part."""
    return part_fidelity("sae", "law", sums, overall, config=CONFIG)


def clusters_of(seed: int, count: int) -> NDArray[np.float64]:
    """Return clusters of 20 to 60 tokens, about 3 nats each, with a rise of about 0.2 nats that varies."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(20, 60, count).astype(np.float64)
    ce = tokens * rng.normal(3, 0.3, count)
    return np.stack([tokens, ce, ce + tokens * rng.normal(0.2, 0.1, count)], axis=1)


def interval(estimate: Estimate | None) -> tuple[float, float]:
    """Return the bounds of an estimate that must have them."""
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 50))
def test_predicting_the_mean_is_an_fvu_of_1_and_perfection_of_0(seed: int, tokens: int) -> None:
    """With sums taken from residuals, the mean explains nothing and the residual itself everything."""
    rng = np.random.default_rng(seed)
    residual = rng.normal(5, 2, (tokens, 8))
    mean = residual.mean(axis=0)
    variance = float(((residual - mean) ** 2).sum())
    for rebuilt, fvu in ((np.broadcast_to(mean, residual.shape), 1.0), (residual, 0.0)):
        sums = moments(tokens=tokens, total_variance=variance, error=float(((residual - rebuilt) ** 2).sum()))
        assert whole(sums).fvu == fvu


def test_delta_ce_is_the_rise_a_token_and_its_interval_holds_it() -> None:
    """The value is the ratio of sums over all clusters, not the mean of their ratios."""
    for seed in range(20):
        clusters = clusters_of(seed, 8 + seed)
        tokens, ce, ce_spliced = clusters.sum(axis=0)
        found = whole(spliced(clusters)).delta_ce
        assert found is not None
        assert found.value == pytest.approx((ce_spliced - ce) / tokens, rel=1e-12)
        low, high = interval(found)
        assert low < found.value < high


def test_the_interval_has_the_width_of_the_standard_error() -> None:
    """With clusters of equal size it is about the mean plus and minus 1.96 standard errors."""
    rng = np.random.default_rng(5)
    rises = rng.normal(0.2, 0.1, 200)
    clusters = np.stack([np.full(200, 40.0), np.full(200, 120.0), 120 + 40 * rises], axis=1)
    low, high = interval(whole(spliced(clusters)).delta_ce)
    error = rises.std() / np.sqrt(200)
    assert low == pytest.approx(rises.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(rises.mean() + 1.96 * error, abs=0.15 * error)


@pytest.mark.parametrize("count", [1, 7, 8])
def test_fewer_than_8_clusters_give_no_interval(count: int) -> None:
    """Resampling a handful of documents would promise a precision that is not there."""
    found = whole(spliced(clusters_of(1, count))).delta_ce
    assert found is not None
    assert (found.low is None) == (found.high is None) == (count < 8)


def test_the_order_of_clusters_changes_nothing() -> None:
    """The same documents in another order give the same value and the same interval."""
    clusters = clusters_of(2, 30)
    shuffled = clusters[np.random.default_rng(0).permutation(30)]
    first, second = whole(spliced(clusters)).delta_ce, whole(spliced(shuffled)).delta_ce
    assert first is not None
    assert second is not None
    assert second.value == pytest.approx(first.value, rel=1e-12)
    assert interval(second) == pytest.approx(interval(first), rel=1e-9)


def test_doubling_every_cluster_keeps_the_value_and_narrows_the_interval() -> None:
    """Twice the same evidence says the same of the value; it is the clusters that are counted, not the tokens."""
    clusters = clusters_of(3, 30)
    once, twice = whole(spliced(clusters)).delta_ce, whole(spliced(np.concatenate([clusters, clusters]))).delta_ce
    longer = whole(spliced(2 * clusters)).delta_ce
    assert once is not None
    assert twice is not None
    assert longer is not None
    assert twice.value == pytest.approx(once.value, rel=1e-12)
    width = np.subtract(*interval(once))
    assert np.subtract(*interval(twice)) == pytest.approx(width / np.sqrt(2), rel=0.15)
    assert longer.value == pytest.approx(once.value, rel=1e-12)
    assert interval(longer) == pytest.approx(interval(once), rel=1e-12)


@pytest.mark.parametrize(("rise", "recovered"), [(0.0, 1.0), (3.0, 0.0), (1.5, 0.5), (4.5, -0.5)])
def test_ce_recovered_runs_from_no_loss_to_that_of_ablation(rise: float, recovered: float) -> None:
    """1 when splicing costs nothing, 0 when it costs what ablation costs, below 0 beyond; 3 nats is ablation here."""
    assert whole(at(0.1, rise)).ce_recovered == pytest.approx(recovered)


def test_what_was_not_spliced_is_none() -> None:
    """No zero stands for a measurement that was not made, and no ratio for a division by nothing."""
    row = whole(moments())
    assert (row.spliced_tokens, row.ce, row.delta_ce, row.ce_recovered, row.kl, row.kl_ratio) == (0, *[None] * 5)
    harmless = whole(at(0.1, 0.0, ce_ablated=0.0, kl_random=0.0))
    assert harmless.ce_recovered is None
    assert harmless.kl_ratio is None
    assert harmless.kl == pytest.approx(0.05)


def test_dead_and_dense_latents_are_shares_of_all_latents() -> None:
    """3 of 10 fired; dense is more than 10% of the tokens, so 100 of 1,000 is not and 101 is."""
    row = whole(moments())
    assert row.dead_share == pytest.approx(0.7)
    assert row.dense_share == pytest.approx(0.1)
    assert (row.scope, row.tokens) == (ALL, 1000)


@pytest.mark.parametrize(
    ("fvu", "delta_ce", "colour"),
    [
        (0.0, 0.0, Colour.GREEN),
        (CONFIG.green_fvu, CONFIG.green_delta_ce, Colour.GREEN),
        (np.nextafter(CONFIG.green_fvu, 1), CONFIG.green_delta_ce, Colour.AMBER),
        (CONFIG.green_fvu, np.nextafter(CONFIG.green_delta_ce, 1), Colour.AMBER),
        (CONFIG.amber_fvu, CONFIG.amber_delta_ce, Colour.AMBER),
        (np.nextafter(CONFIG.amber_fvu, 1), 0.0, Colour.RED),
        (0.0, np.nextafter(CONFIG.amber_delta_ce, 1), Colour.RED),
        (0.0, None, Colour.AMBER),
        (CONFIG.amber_fvu, None, Colour.AMBER),
        (np.nextafter(CONFIG.amber_fvu, 1), None, Colour.RED),
        (float("nan"), 0.0, Colour.RED),
        (0.0, float("nan"), Colour.RED),
    ],
)
def test_the_limits_of_the_colours_belong_to_the_better_one(fvu: float, delta_ce: float | None, colour: Colour) -> None:
    """At the limit still green or amber, the next float beyond not; unmeasured predictions are never green."""
    row = whole(at(fvu, delta_ce))
    assert row.colour is colour
    assert ("not measured" in row.reason) is (delta_ce is None)


LEVELS = st.floats(0, 1)
RISES = st.none() | st.floats(0, 1)


@settings(deadline=None)
@given(LEVELS, RISES, LEVELS, RISES)
def test_a_part_is_never_better_than_the_whole(fvu: float, rise: float | None, own: float, own_rise: float) -> None:
    """Nor better than its own numbers; and it is one colour worse where its FVU is far above the overall one."""
    overall = whole(at(fvu, rise))
    found = part(at(own, own_rise), overall)
    alone = whole(at(own, own_rise)).colour
    far = own > CONFIG.concept_fvu_ratio * overall.fvu
    worse = ORDER[min(ORDER.index(alone) + far, 2)]
    assert found.colour is ORDER[max(ORDER.index(worse), ORDER.index(overall.colour))]
    assert (found.dead_share, found.dense_share) == (None, None)


def test_a_part_says_what_limits_it() -> None:
    """The reason names the overall colour, or the ratio of the FVUs."""
    red = whole(at(0.9, 0.0))
    assert "which is red" in part(at(0.1, 0.0), red).reason
    green = whole(at(0.1, 0.0))
    limit = CONFIG.concept_fvu_ratio * 0.1
    assert part(at(limit, 0.0), green).colour is Colour.GREEN
    beyond = part(at(np.nextafter(limit, 1), 0.0), green)
    assert beyond.colour is Colour.AMBER
    assert "1.5 times the overall 0.100" in beyond.reason


def test_an_error_worse_than_random_is_told() -> None:
    """The reason gives the ratio when it is above 1, of the whole and of a part, and the colour stays."""
    for ratio, told in ((0.5, False), (1.0, False), (2.5, True)):
        sums = at(0.1, 0.05, kl=ratio, kl_random=1.0)
        for row in (whole(sums), part(sums, whole(sums))):
            assert row.kl_ratio == pytest.approx(ratio)
            assert row.colour is Colour.GREEN
            assert (f"{ratio:.1f} times as much as a random error of the same size" in row.reason) is told
            assert ("random error" in row.reason) is told
