"""Co-firing on units with known dependence."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import hypergeom

from audit.analysis.cofiring import co_firing, decoder_cosine, mantel_haenszel
from audit.analysis.firing_blocks import firing_blocks, product
from audit.analysis.pair_scan import STEPS, PairScan, scan_pairs
from audit.arrays import FiringUnits
from audit.config import InteractionConfig
from audit.errors import ShapeMismatch
from audit.records import CoFiring

Fires = NDArray[np.bool_]

# Few pairs can only be flagged where chance has had many turns: one pair more than chance had counts against them.
MANY = InteractionConfig(cofiring_permutations=60)
ARMS = ("concept", "control", "neutral")


def as_units(
    fires: Fires,
    *,
    cell: NDArray[np.str_] | None = None,
    tokens: NDArray[np.int64] | None = None,
    scenario: NDArray[np.int64] | None = None,
) -> FiringUnits:
    """Return (n, m) firings as units; unless said otherwise of one cell and length, a scenario each."""
    n, m = fires.shape
    row, latent = np.nonzero(fires)
    return FiringUnits(
        cell=cell if cell is not None else np.full(n, "c/concept"),
        scenario=scenario if scenario is not None else np.arange(n),
        tokens=tokens if tokens is not None else np.full(n, 30),
        start=np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))]),
        latent=latent,
        latents=m,
    )


def measure(units: FiringUnits, config: InteractionConfig = MANY, *, seed: int = 1, q: float = 0.05) -> CoFiring:
    """Return the co-firing; decoder rows are unit vectors along the axes."""
    cosine = decoder_cosine(np.eye(units.latents, dtype=np.float32), sae="s", latents=units.latents)
    return co_firing(units, cosine, sae="s", config=config, fdr_q=q, seed=seed)


def scan(units: FiringUnits, *, min_expected: float = 5.0, block_features: int = 1024, listed: int = 10**6) -> PairScan:
    """Return the scan with every tested pair listed."""
    blocks = firing_blocks(units, block_features=block_features)
    return scan_pairs(blocks, min_expected=min_expected, permutations=9, listed=listed, seed=0)


def given(rng: np.random.Generator, x: Fires, base: float, odds_ratio: float) -> Fires:
    """Return a feature with the given odds ratio to x."""
    odds = base / (1 - base) * np.where(x, odds_ratio, 1.0)
    return np.asarray(rng.random(x.shape) < odds / (1 + odds))


def test_features_that_share_only_length_and_cell_are_not_flagged() -> None:
    """Firing rates rise or fall with length, and differ by cell: without strata most pairs are flagged, with them none.

    Permutations as in an audit.
    """
    for seed in range(3):
        rng = np.random.default_rng(seed)
        n, m = 3000, 120
        tokens = rng.integers(20, 100, n)
        cell = rng.choice(["a/concept", "a/control", "b/concept"], n)
        slope = rng.choice([-1, 1], m) * rng.uniform(0.6, 1.4, m)
        logit = np.outer((tokens - 60) / 23, slope) + rng.normal(0, 0.4, m) + (cell == "b/concept")[:, None] * 0.5
        found = measure(as_units(rng.random((n, m)) < 1 / (1 + np.exp(-logit)), cell=cell, tokens=tokens),
                        InteractionConfig(), seed=seed)  # fmt: skip
        assert found.pairs == m * (m - 1) // 2
        assert found.flagged_naive > 0.5 * found.pairs
        assert (found.flagged, found.top, found.communities) == (0, (), ())


def arms_alike(rng: np.random.Generator, scenarios: int, m: int) -> FiringUnits:
    """Return units whose features follow their scenario: they fire in all its arms or in none, each on its own."""
    fires = np.repeat(rng.random((scenarios, m)) < 0.3, len(ARMS), axis=0)
    return as_units(
        fires,
        cell=np.tile([f"c/{arm}" for arm in ARMS], scenarios),
        scenario=np.repeat(np.arange(scenarios), len(ARMS)),
    )


def test_the_arms_of_a_scenario_are_not_independent_evidence() -> None:
    """Three copies of each scenario triple the variance of a joint count; permuted scenarios have that variance too."""
    for seed in range(3):
        units = arms_alike(np.random.default_rng(seed), 200, 150)
        found, spread = measure(units, InteractionConfig(), seed=seed), scan(units)
        assert found.flagged == 0
        steps = np.arange(len(spread.observed))
        observed, permuted = (
            np.average((steps / STEPS) ** 2, weights=counts) for counts in (spread.observed, spread.permuted)
        )
        assert observed == pytest.approx(3.0, rel=0.1)
        assert permuted == pytest.approx(3.0, rel=0.1)


def test_permuted_scenarios_keep_their_arms_and_features_part() -> None:
    """Margins stay, a feature is alike in all arms of a scenario, and two equal features are equal no more."""
    fires = np.repeat(np.random.default_rng(0).random((60, 1)) < 0.4, 2, axis=1)
    units = as_units(
        np.repeat(fires, 3, axis=0),
        cell=np.tile([f"c/{arm}" for arm in ARMS], 60),
        scenario=np.repeat(np.arange(60), 3),
    )
    blocks = firing_blocks(units)
    (permuted,) = blocks.permuted(np.random.SeedSequence(0))
    assert blocks.sizes.tolist() == [60, 60, 60]
    np.testing.assert_array_equal(*(blocks.margins(one).toarray() for one in (permuted, blocks.blocks[0])))
    arms = permuted.toarray().reshape(2, 3, 60)
    assert (arms == arms[:, :1]).all()
    assert (arms[0] != arms[1]).any()
    assert (arms[0, 0] != fires[:, 0]).any()


def test_planted_pairs_are_found_with_their_odds_ratio() -> None:
    """One pair fires together at odds 6, one excludes each other at odds 1/6; signs and intervals are right."""
    rng = np.random.default_rng(0)
    n = 3000
    fires = rng.random((n, 20)) < 0.3
    fires[:, 7] = given(rng, fires[:, 2], 0.2, 6.0)
    fires[:, 3] = given(rng, fires[:, 11], 0.4, 1 / 6)
    units = as_units(fires, cell=rng.choice(["a/concept", "b/concept"], n), tokens=rng.integers(20, 60, n))
    found = measure(units, q=0.01)
    assert found.flagged == len(found.top) == 2
    pairs = {(pair.first, pair.second): pair for pair in found.top}
    for key, planted in (((2, 7), 6.0), ((3, 11), 1 / 6)):
        pair = pairs[key]
        ratio = pair.odds_ratio
        assert ratio is not None
        assert ratio.low is not None
        assert ratio.high is not None
        assert ratio.low < planted < ratio.high < 1.7 * ratio.low
        assert (pair.observed > pair.expected) == (planted > 1)
        assert 0 < pair.q_value <= 0.01
        assert pair.cosine == 0.0
    # Features that exclude each other are no community.
    assert [(group.number, group.size, group.latents) for group in found.communities] == [(1, 2, (2, 7))]
    assert (pairs[2, 7].community, pairs[3, 11].community) == (1, None)


def test_the_statistic_is_that_of_mantel_and_haenszel() -> None:
    """Mean and variance of each stratum's joint count are those of SciPy's hypergeometric distribution."""
    rng = np.random.default_rng(2)
    fires = rng.random((90, 9)) < rng.uniform(0.2, 0.7, 9)
    cell = rng.choice(["a", "b", "c"], 90)
    found = scan(as_units(fires, cell=cell), min_expected=1.0).strongest
    assert sorted(zip(found.first, found.second, strict=True)) == [(i, j) for i in range(9) for j in range(i + 1, 9)]
    assert (np.diff(found.step) <= 0).all()
    for first, second, step, observed, expected in zip(
        found.first, found.second, found.step, found.observed, found.expected, strict=True
    ):
        x, y = fires[:, first], fires[:, second]
        null = [hypergeom((cell == c).sum(), x[cell == c].sum(), y[cell == c].sum()) for c in "abc"]
        mean, variance = sum(part.mean() for part in null), sum(part.var() for part in null)
        assert observed == (x & y).sum()
        assert expected == pytest.approx(mean)
        assert step / STEPS == pytest.approx(abs(observed - mean) / np.sqrt(variance), abs=2 / STEPS)


def test_the_odds_ratio_is_that_of_a_published_example() -> None:
    """Admissions to Berkeley by sex and department: R's mantelhaen.test gives 0.9046968 and 0.7719074 to 1.0603298."""
    # Rows: departments; columns: men admitted and rejected, women admitted and rejected.
    tables = np.array(
        [
            [512, 313, 89, 19], [353, 207, 17, 8], [120, 205, 202, 391],
            [138, 279, 131, 244], [53, 138, 94, 299], [22, 351, 24, 317],
        ],
        dtype=np.float64,
    )  # fmt: skip
    a, b, c, _ = tables.T
    counts = np.array([a, a + b, a + c])
    found = mantel_haenszel(counts, tables.sum(axis=1), np.zeros(6, dtype=np.int64))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.9046968, 0.7719074, 1.0603298), abs=1e-6)


def test_repeated_strata_of_a_group_do_not_narrow_the_interval() -> None:
    """Three equal arms are one: of independent ones the interval would shrink to 0.58 of its width."""
    rng = np.random.default_rng(3)
    sizes = np.full(200, 20.0)
    x = rng.random((200, 20)) < 0.4
    y = given(rng, x, 0.3, 3.0)
    counts = np.array([(x & y).sum(axis=1), x.sum(axis=1), y.sum(axis=1)], dtype=np.float64)
    group = np.arange(200)
    once = mantel_haenszel(counts, sizes, group)
    thrice = mantel_haenszel(np.tile(counts, 3), np.tile(sizes, 3), np.tile(group, 3))
    apart = mantel_haenszel(np.tile(counts, 3), np.tile(sizes, 3), np.arange(600))
    widths = []
    for found in (once, thrice, apart):
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < 3.0 < found.high
        widths.append(np.log(found.high / found.low))
    assert widths[1] > 0.85 * widths[0]
    assert widths[2] < 0.65 * widths[0]


def test_odds_ratios_at_the_ends() -> None:
    """Never one without the other: infinite, no estimate. Never both: 0, no interval."""
    sizes, group = np.array([10.0, 10.0]), np.arange(2)
    assert mantel_haenszel(np.array([[4.0, 5.0], [4.0, 5.0], [4.0, 5.0]]), sizes, group) is None
    never = mantel_haenszel(np.array([[0.0, 0.0], [4.0, 5.0], [4.0, 5.0]]), sizes, group)
    assert never is not None
    assert (never.value, never.low, never.high) == (0.0, None, None)


def test_planted_communities_are_found() -> None:
    """Three sets of features follow a common cause each; the largest is the first."""
    rng = np.random.default_rng(8)
    groups = [(1, 4, 6, 9, 12), (0, 3, 5, 15), (2, 8, 14)]
    fires = rng.random((800, 20)) < 0.25
    for group in groups:
        cause = rng.random(800) < 0.4
        for latent in group:
            fires[:, latent] = np.where(rng.random(800) < 0.7, cause, fires[:, latent])
    found = measure(as_units(fires))
    assert [tuple(sorted(one.latents)) for one in found.communities] == groups
    assert [(one.number, one.size) for one in found.communities] == [(1, 5), (2, 4), (3, 3)]
    assert {(pair.first, pair.second): pair.community for pair in found.top}[2, 14] == 3
    assert found == measure(as_units(fires))


def test_a_feature_of_one_stratum_only() -> None:
    """Two features of one cell are judged within it; one that always fires there does not vary and is not tested."""
    rng = np.random.default_rng(4)
    cell = np.repeat(["a", "b"], 100)
    inside = cell == "a"
    x = inside & (rng.random(200) < 0.5)
    fires = np.stack([x, inside & given(rng, x, 0.3, 30.0), inside], axis=1)
    found = measure(as_units(fires, cell=cell), InteractionConfig(cofiring_permutations=200))
    assert (found.live, found.pairs, found.flagged, found.strata) == (3, 1, 1, 2)
    assert (found.top[0].first, found.top[0].second) == (0, 1)
    # Over both cells together they all fire together.
    assert found.top[0].expected == pytest.approx(fires[:, 0].sum() * fires[:, 1].sum() / 100)


def test_scenarios_without_a_comparable_one_carry_nothing() -> None:
    """A scenario of other cells or of another length decile is no evidence, and rare features are not live."""
    fires = np.random.default_rng(1).random((44, 5)) < 0.5
    fires[:, 4] = False
    fires[:7, 4] = True
    cell = np.array(["a/concept"] * 42 + ["a/cue", "b/concept"])
    scenario = np.array([*range(42), 41, 42])
    tokens = np.full(44, 30)
    tokens[40] = 90
    found, fewer = (
        measure(units)
        for units in (
            as_units(fires, cell=cell, scenario=scenario, tokens=tokens),
            as_units(fires[:40]),
        )
    )
    assert (found.units, fewer.units) == (44, 40)
    assert (found.strata, found.live, found.pairs) == (fewer.strata, fewer.live, fewer.pairs) == (1, 4, 6)


@pytest.mark.parametrize(
    ("fires", "live"),
    [(np.zeros((0, 5), dtype=np.bool_), 0), (np.zeros((50, 5), dtype=np.bool_), 0), (np.eye(100) > 0, 0),
     (np.ones((50, 3), dtype=np.bool_), 3), (np.arange(50)[:, None] % 5 == np.arange(2), 2)],
)  # fmt: skip
def test_nothing_to_test(fires: Fires, live: int) -> None:
    """No unit, no firing, rare features, features that always fire, and pairs too rare to be expected five times."""
    found = measure(as_units(fires))
    assert (found.live, found.pairs, found.flagged, found.flagged_permuted, found.flagged_naive) == (live, 0, 0, 0.0, 0)
    assert (found.top, found.communities) == ((), ())


def test_the_false_discovery_rate_is_kept() -> None:
    """Of what is flagged at q = 0.1 beside 40 planted pairs, about a tenth at most is false, over 25 data sets."""
    shares = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        fires = rng.random((400, 80)) < 0.35
        for latent in range(0, 80, 2):
            fires[:, latent + 1] = given(rng, fires[:, latent], 0.25, 2.5)
        found = measure(as_units(fires), InteractionConfig(listed_pairs=2000), seed=seed, q=0.1)
        assert found.flagged == len(found.top) > 10
        shares.append(np.mean([pair.first // 2 != pair.second // 2 for pair in found.top]))
    assert np.mean(shares) < 0.1 + 2 * np.std(shares) / 5
    assert np.mean(shares) > 0.02


def test_the_size_of_blocks_changes_nothing_observed() -> None:
    """Blocks of 7 features find what one block does, with rare features in sparse products."""
    rng = np.random.default_rng(6)
    units = as_units(rng.random((500, 60)) < np.geomspace(0.02, 0.6, 60), cell=rng.choice(["a", "b"], 500))
    one, many = scan(units, listed=30), scan(units, block_features=7, listed=30)
    np.testing.assert_array_equal(one.observed, many.observed)
    assert one.naive == many.naive
    for name in ("first", "second", "step", "observed"):
        np.testing.assert_array_equal(getattr(one.strongest, name), getattr(many.strongest, name))
    assert one.permuted.sum() == 9 * one.observed.sum()


@pytest.mark.parametrize("rate", [0.01, 0.5])
def test_joint_counts_are_the_same_sparse_and_dense(rate: float) -> None:
    """The two ways to multiply give the numbers of units in which both fire."""
    fires = np.random.default_rng(7).random((2000, 40)) < rate
    fires[:10] = True
    (first, second) = firing_blocks(as_units(fires), block_features=20).blocks
    expected = first.toarray().astype(int) @ second.toarray().astype(int).T
    found = product(first.astype(np.float32), second.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_decoder_of_another_sae_is_refused() -> None:
    """A row too few is an error, not a cosine of other features."""
    with pytest.raises(ShapeMismatch, match="decoder of s"):
        decoder_cosine(np.eye(2, dtype=np.float32), sae="s", latents=3)
