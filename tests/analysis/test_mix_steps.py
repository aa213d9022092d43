"""The two steps over mixes: the shortcuts decide as the plain procedure does, and the control holds its level."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from audit.analysis import factorial
from audit.analysis.ladder import Gate
from audit.analysis.mix_measures import MEASURES, MixContrasts, MixDifferences
from audit.analysis.mix_steps import Families, Mask, any_word, choose, confirm, needs_maximum, relabelled_hits, words
from audit.analysis.signflip import max_t_p, random_signs
from audit.arrays import Confirmation, Discovery, FloatArray, Halves
from audit.config import AnalysisConfig
from audit.records import MixMeasure, MixWord, Rung

CONFIG = AnalysisConfig(flips=4000, permutations=200, bootstrap=200)
A, B, ADDITIVE, EMERGENT = (MEASURES.index(measure) for measure in MixMeasure)


def differences(rng: np.random.Generator, n: int, m: int, *, second: float, placebo: float) -> MixDifferences:
    """Return normal differences about a mean in every measure; nothing exceeds the threshold on one concept alone."""
    return MixDifferences(
        rng.normal(second, 1, size=(4, n, m)), rng.normal(placebo, 1, size=(4, n, m)), np.zeros((3, n, m))
    )


def contrasts(own: FloatArray, excess: FloatArray) -> Confirmation[MixContrasts]:
    """Return contrasts of one feature with the same values in every measure, (n,)."""
    wide = [np.broadcast_to(part[None, :, None], (4, len(part), 1)) for part in (own, excess)]
    return Confirmation(MixContrasts(*wide, np.zeros((2, len(own), 1))))


def test_a_claim_needs_both_tests_in_one_direction() -> None:
    """24 of 24 up has p 2^-23; the larger p of the two counts; opposite directions have p = 1."""
    up, mixed = np.ones(24), np.where(np.arange(24) < 18, 1.0, -1.0)
    assert confirm(contrasts(up, up), None, CONFIG).p[A, 0] == 2.0**-23
    # 18 or more, or 6 or fewer, of 24 fair coins.
    assert confirm(contrasts(up, mixed), None, CONFIG).p[A, 0] == pytest.approx(0.02266, abs=1e-5)
    assert confirm(contrasts(mixed, up), None, CONFIG).p[A, 0] == pytest.approx(0.02266, abs=1e-5)
    assert (confirm(contrasts(up, -up), None, CONFIG).p == 1).all()
    down = confirm(contrasts(-up, -up), None, CONFIG)
    assert down.claims[:, 0].tolist() == [-1, -1, -1, 0], "a race bound that is kept is no finding"
    assert down.p[EMERGENT, 0] == 1


def test_holm_counts_every_test_of_the_family() -> None:
    """Four equal p of 0.0227 do not pass at 0.05 / 4; one alone does, in the direction of discovery only."""
    values = contrasts(np.ones(24), np.where(np.arange(24) < 18, 1.0, -1.0))
    assert not confirm(values, None, CONFIG).claims.any()
    one = np.zeros((4, 1))
    one[ADDITIVE] = 1
    alone = confirm(values, one, CONFIG)
    assert alone.claims[:, 0].tolist() == [0, 0, 1, 0]
    assert alone.made.sum() == 1
    assert not confirm(values, -one, CONFIG).claims.any()
    assert not confirm(values, one, CONFIG, family=3).claims.any()


@pytest.mark.parametrize(
    ("claims", "single", "expected"),
    [
        ((0, 0, 1, 0), 0.0, {MixWord.SYNERGY}),
        ((0, 0, -1, 0), 0.0, set()),
        ((-1, 0, 0, 0), 0.0, set()),
        ((0, -1, -1, 0), 0.0, {MixWord.SUPPRESSION}),
        ((1, -1, -1, 0), 0.0, {MixWord.SUPPRESSION, MixWord.FACILITATION}),
        ((0, 1, 0, 0), 0.0, {MixWord.FACILITATION}),
        ((0, 0, 0, 1), 0.05, {MixWord.EMERGENT}),
        ((0, 0, 0, 1), 0.06, set()),
    ],
)
def test_words_are_those_of_the_definition(claims: tuple[int, ...], single: float, expected: set[MixWord]) -> None:
    """Suppression needs both measures down; emergent needs silence on one concept alone."""
    held = words(np.array(claims, dtype=np.float64)[:, None], np.array([single]), limit=0.05)
    assert {word for word, mask in held.items() if mask[0]} == expected


def test_the_pruned_maximum_chooses_what_the_whole_one_does() -> None:
    """Of 600 tests the same are below the level as without leaving any out."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        data = differences(rng, 14, 500, second=0.0, placebo=0.0)
        strong = data.second.copy()
        strong[:, :, :6] += np.array([6, 5, 4, 3, 2, 1])
        both = replace(data, second=strong).contrasts()
        assert needs_maximum(14, 2000, CONFIG)
        whole = max_t_p(both.columns, flips=20_000, rng=rng).reshape(2, -1).max(axis=0)
        chosen = choose(Discovery(both), replace(CONFIG, flips=20_000), rng).signs.ravel() != 0
        sure = np.abs(whole - CONFIG.fdr_q) > 0.005
        np.testing.assert_array_equal(chosen[sure], (whole <= CONFIG.fdr_q)[sure])
        assert chosen.sum() >= 6


def test_exchanging_twice_changes_nothing() -> None:
    """Concept and placebo change places in the marked scenarios: the excess turns its sign there."""
    rng = np.random.default_rng(0)
    data = replace(differences(rng, 10, 3, second=1, placebo=0), alone=rng.uniform(size=(3, 10, 3)))
    signs = random_signs(rng, 1, 10)[0]
    once = data.exchanged(signs)
    np.testing.assert_array_equal(once.contrasts().excess, data.contrasts().excess * signs[:, None])
    np.testing.assert_array_equal(once.alone[1, signs < 0], data.alone[2, signs < 0])
    np.testing.assert_array_equal(once.exchanged(signs).second, data.second)


def control(seed: int, *, n: tuple[int, int], m: int, second: float, placebo: float, confirmed: int) -> Mask:
    """Return in which of 200 runs the exchanged data give a finding, the first features being confirmed ones."""
    rng = np.random.default_rng(seed)
    first, held_out = (differences(rng, count, m, second=second, placebo=placebo) for count in n)
    families = Families(np.arange(confirmed), np.arange(confirmed, m))
    both = Halves(Discovery(first), Confirmation(held_out))
    return relabelled_hits(both, families, CONFIG, limit=0.05, rng=np.random.default_rng(seed))


def test_the_shortcut_of_confirmed_features_decides_as_the_plain_procedure() -> None:
    """Every run of the control, tested in full, gives the same answer."""
    rng = np.random.default_rng(8)
    first, held_out = (differences(rng, count, 6, second=2, placebo=2) for count in (16, 24))
    families = Families(np.arange(6), np.arange(0))
    both = Halves(Discovery(first), Confirmation(held_out))
    hits = relabelled_hits(both, families, CONFIG, limit=0.05, rng=np.random.default_rng(5))
    draws = np.random.default_rng(5)
    _, signs = (random_signs(draws, 200, count) for count in (16, 24))
    plain = []
    for row in signs:
        exchanged = Confirmation(held_out.exchanged(row).contrasts())
        plain.append(bool(any_word(confirm(exchanged, None, CONFIG), exchanged, limit=0.05).any()))
    assert hits.tolist() == plain
    assert 0 < hits.sum() < 200 * (0.05 + 2 * sqrt(0.05 * 0.95 / 200))


@pytest.mark.parametrize(("n", "m"), [((16, 24), 420), ((24, 24), 60)])
def test_the_control_holds_its_level_whatever_the_concept_does(n: tuple[int, int], m: int) -> None:
    """A strong interaction does not survive the exchange of concept and placebo, in either way of choosing."""
    hits = [control(s, n=n, m=m, second=2, placebo=0, confirmed=10).sum() for s in range(3)]
    assert max(hits) <= 200 * (0.05 + 2 * sqrt(0.05 * 0.95 / 200))


def test_too_many_hits_of_the_control_leave_everything_unresolved() -> None:
    """Of 200 runs 16 are within 0.05 and two standard errors, 17 are not."""
    free = Gate(Rung.CAUSAL, "")
    assert factorial._cap(free, 16, 200, 24, CONFIG) == Gate(Rung.CONFIRMED, "")
    failed = factorial._cap(free, 17, 200, 24, CONFIG)
    assert failed.cap is Rung.UNRESOLVED
    assert failed.reason == (
        "the placebo control failed: 17 of 200 runs with concept and placebo exchanged find something"
    )
