"""The factorial over a mix on features whose interaction is known: the right word, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import sqrt

import numpy as np
import pytest

from audit.analysis import factorial
from audit.analysis.factorial import scan_mix
from audit.analysis.ladder import Gate
from audit.arrays import Confirmation, Discovery, FloatArray, Halves, MixScores
from audit.config import AnalysisConfig, InteractionConfig
from audit.records import MixFinding, MixMeasure, MixScan, MixWord, Rung
from probes.schema import Cell, Clause, Order

CONFIG = AnalysisConfig(flips=4000, permutations=40, bootstrap=200)
FREE = Gate(Rung.CAUSAL, "")
AB, BA = Order.A_FIRST, Order.B_FIRST
# Means of both spans, given whether A, B and the placebo are there and whether A's clause is in front.
Rule = Callable[[bool, bool, bool, bool], tuple[float, float]]

RULES: dict[str, Rule] = {
    # Each concept on its own tokens, whatever stands beside it: of the prompt as a whole this is OR.
    "or": lambda a, b, _p, _front: (4.0 * a, 4.0 * b),
    "additive": lambda a, b, p, _front: (4.0 * a, 1.5 * b + 2.5 * p),
    # What reads both clauses can do so on the later one only.
    "and": lambda a, b, _p, front: (4.0 * (a and b and not front), 4.0 * (a and b and front)),
    "xor": lambda a, b, _p, front: (4.0 * (a != b and not front), 4.0 * (a != b and front)),
    "suppression": lambda a, b, _p, front: (a * (1.0 if b and not front else 4.0), 0.0),
    # Whatever comes after B is louder, filler as well.
    "facilitation": lambda a, b, _p, front: (2.0 + a + 2.0 * (b and not front), 2.0),
    "placebo too": lambda a, b, p, front: (a * (5.0 if (b or p) and not front else 2.0), 1.0),
    "placebo and": lambda a, b, p, front: (0.0, 4.0 * (a and (b or p) and front)),
}
SAID: dict[str, set[MixWord]] = {
    "or": set(),
    "additive": set(),
    "and": {MixWord.SYNERGY, MixWord.FACILITATION, MixWord.EMERGENT},
    "xor": {MixWord.SUPPRESSION},
    "suppression": {MixWord.SUPPRESSION},
    "facilitation": {MixWord.FACILITATION},
    "placebo too": set(),
    "placebo and": set(),
}


def simulate(rng: np.random.Generator, n: int, rules: Sequence[Rule], *, context: float = 0.1) -> MixScores:
    """Return n scenarios of features that follow the rules.

    A sentence has a loudness of its own, the same wherever it stands; context adds noise; one prompt in a hundred fires
    by chance.
    """
    first, second = np.zeros((2, 6, 2, n, len(rules)))
    for column, rule in enumerate(rules):
        loudness = {clause: rng.lognormal(0, 0.4, size=n) for clause in Clause}
        for (c, cell), (o, order) in product(enumerate(Cell), enumerate(Order)):
            present = cell.value[0] == "1", cell.value[1] == "1", cell.value[1] == "p"
            means = rule(*present, order is AB)
            for span, mean, clause in zip((first, second), means, cell.clauses, strict=True):
                chance = rng.uniform(size=n) < 0.005
                span[c, o, :, column] = mean * loudness[clause] * rng.lognormal(0, context, size=n) + chance
    return scores(first, second)


def scores(first: FloatArray, second: FloatArray) -> MixScores:
    """Return scores with the largest activation at a third of the louder clause's sum."""
    n, m = first.shape[2:]
    return MixScores(np.arange(n), np.arange(m) * 2, first, second, np.maximum(first, second) / 3)


def halves(
    seed: int, rules: Sequence[Rule], *, n: tuple[int, int] = (16, 24), context: float = 0.1
) -> Halves[MixScores]:
    """Return both splits of the same features."""
    rng = np.random.default_rng(seed)
    first, second = (simulate(rng, count, rules, context=context) for count in n)
    return Halves(Discovery(first), Confirmation(second))


def scan(
    data: Halves[MixScores],
    *,
    owners: Mapping[int, tuple[str, ...]] | None = None,
    config: AnalysisConfig = CONFIG,
    limits: Gate = FREE,
    seed: int = 1,
) -> MixScan:
    """Return what is found."""
    return scan_mix(
        data,
        mix="m",
        sae="s",
        owners=owners or {},
        limits=limits,
        interaction=InteractionConfig(),
        config=config,
        seed=np.random.SeedSequence(seed),
    )


def effect(finding: MixFinding, measure: MixMeasure) -> tuple[float, float]:
    """Return the effect of a measure and that beyond the placebo."""
    found = next(e for e in finding.effects if e.measure is measure)
    return found.effect.value, found.against_placebo.value


def noise(rng: np.random.Generator, count: int) -> list[Rule]:
    """Return features that react to each concept and to the placebo by themselves, each in its own way."""

    def rule(levels: FloatArray) -> Rule:
        return lambda a, b, p, front: (levels[0] + levels[1] * a, levels[2 + front] + levels[4] * b + levels[5] * p)

    return [rule(levels) for levels in rng.exponential(size=(count, 6))]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("confirmed", [True, False])
def test_each_kind_of_feature_gets_its_word_and_no_other(seed: int, *, confirmed: bool) -> None:
    """AND is synergy, facilitation and emergent, XOR suppression; OR and what a placebo does as well are nothing."""
    names = list(RULES)
    rules = [*RULES.values(), *noise(np.random.default_rng(seed + 100), 40)]
    owners = {2 * n: ("a",) for n in range(len(names))} if confirmed else {}
    found = scan(halves(seed, rules), owners=owners)
    said: dict[str, set[MixWord]] = {name: set() for name in names}
    for finding in found.findings:
        assert finding.latent % 2 == 0
        assert finding.latent // 2 < len(names), "a feature without interaction is listed"
        said[names[finding.latent // 2]] = set(finding.words)
        assert finding.owners == (("a",) if confirmed else ())
        assert finding.rung is Rung.CONFIRMED
        assert finding.n_scenarios == 24
    assert said == SAID
    assert (found.confirmed_tested, found.scan_tested) == ((8, 40) if confirmed else (0, 48))
    assert found.rung is Rung.CONFIRMED


def test_effects_are_the_planted_ones() -> None:
    """Suppression takes 3 of 4 off A's tokens after B: -3 aligned, half of it on the mean of both orders."""
    data = halves(5, [RULES["suppression"], RULES["and"]], context=0.0)
    found = {f.latent: f for f in scan(data, owners={0: ("a",), 2: ("a",)}).findings}
    loudness = data.confirmation.data.first[list(Cell).index(Cell.FIRST), 1, :, 0].mean() / 4
    assert effect(found[0], MixMeasure.ALIGNED_A) == pytest.approx((-3 * loudness,) * 2, abs=0.1)
    assert effect(found[0], MixMeasure.ADDITIVE) == pytest.approx((-1.5 * loudness,) * 2, abs=0.1)
    both = list(Cell).index(Cell.BOTH)
    a_last, b_last = (
        data.confirmation.data.first[both, 1, :, 1].mean(),
        data.confirmation.data.second[both, 0, :, 1].mean(),
    )
    assert effect(found[2], MixMeasure.ALIGNED_A)[0] == pytest.approx(a_last, abs=0.1)
    assert effect(found[2], MixMeasure.ALIGNED_B)[0] == pytest.approx(b_last, abs=0.1)
    assert effect(found[2], MixMeasure.ADDITIVE)[0] == pytest.approx((a_last + b_last) / 2, abs=0.1)
    assert effect(found[2], MixMeasure.EMERGENT) == pytest.approx((1, 1), abs=0.05)
    assert found[2].single_firing <= 0.05


@pytest.mark.parametrize("seed", range(5))
def test_length_alone_is_no_interaction(seed: int) -> None:
    """Sums grow with the length of a clause and with its place in the prompt; B and placebo are longer than filler."""
    rng = np.random.default_rng(seed)

    def part(n: int) -> MixScores:
        tokens = {clause: rng.integers(5, 60, size=(n, 1)) for clause in (Clause.A, Clause.B)}
        tokens[Clause.A_FILLER] = tokens[Clause.A]
        tokens[Clause.PLACEBO] = tokens[Clause.B]
        tokens[Clause.B_FILLER] = tokens[Clause.B] - 4
        first, second = np.zeros((2, 6, 2, n, 30))
        rate, drift = rng.exponential(size=(2, 30))
        for (c, cell), (o, order) in product(enumerate(Cell), enumerate(Order)):
            a, b = (tokens[clause] for clause in cell.clauses)
            for span, own, before in ((first, a, b * (order is BA)), (second, b, a * (order is AB))):
                span[c, o] = own * rate * (1 + 0.02 * drift * before) * rng.lognormal(0, 0.02, size=(n, 30))
        return scores(first, second)

    data = Halves(Discovery(part(16)), Confirmation(part(24)))
    found = scan(data, owners={2 * n: ("a",) for n in range(15)})
    assert found.findings == ()
    assert found.placebo_alone > 10, "the position of A after a longer sentence is there to be found, beside filler"


def share_with_finding(make: Callable[[int], Halves[MixScores]], draws: int) -> float:
    """Return the share of draws in which any word is said, a third of the features being confirmed ones."""
    quick = replace(CONFIG, permutations=1, flips=1000)
    owners = {2 * n: ("a",) for n in range(10)}
    return float(np.mean([bool(scan(make(seed), owners=owners, config=quick).findings) for seed in range(draws)]))


def test_without_interaction_a_word_is_rarely_said() -> None:
    """Share of mixes with any finding at most 0.05 and two standard errors."""
    rate = share_with_finding(lambda s: halves(s, noise(np.random.default_rng(s), 24), context=0.5), 100)
    assert rate <= 0.05 + 2 * sqrt(0.05 * 0.95 / 100)


def test_a_placebo_that_does_the_same_leaves_nothing_to_say() -> None:
    """Every feature reacts to B in front of A and to the placebo alike: the second test alone holds the level."""
    rules = [RULES["placebo too"]] * 24
    rate = share_with_finding(lambda s: halves(s, rules, context=0.4), 100)
    assert rate <= 0.05 + 2 * sqrt(0.05 * 0.95 / 100)
    assert scan(halves(0, rules), owners={0: ("a",)}).placebo_alone >= 20


def additive_p(data: Halves[MixScores]) -> float:
    """Return the p of the additive measure of the first feature."""
    finding = scan(data, owners={0: ("a",)}).findings[0]
    return next(e.p_value for e in finding.effects if e.measure is MixMeasure.ADDITIVE)


def test_an_order_that_says_the_same_again_changes_no_p() -> None:
    """Prompts of one scenario are no further evidence: the scenario's mean is tested, on 24 values."""
    rng = np.random.default_rng(3)
    sums, differing = np.zeros((2, 6, 2, 24, 1))
    sums[list(Cell).index(Cell.BOTH), :, :, 0] = rng.normal(0.55, 1, size=24)
    differing[:] = sums
    differing[:, 0] += 0.25
    differing[:, 1] -= 0.25
    shown = [MixScores(np.arange(24), np.array([0]), part, part, np.ones_like(part)) for part in (sums, differing)]
    p = [factorial_p(part) for part in shown]
    assert p[0] == pytest.approx(p[1])
    assert 1e-4 < p[0] < 0.05, "with 48 values in place of 24 it would be far smaller"


def factorial_p(part: MixScores) -> float:
    """Return the additive p of confirmation, whatever is said of it."""
    values = factorial.measure(part, part.latents, np.zeros(1)).contrasts()
    tested = factorial.confirm(Confirmation(values), None, CONFIG)
    return float(tested.p[list(MixMeasure).index(MixMeasure.ADDITIVE), 0])


def test_one_scenario_gives_p_1() -> None:
    """A feature that fires in one scenario alone has p = 1 under every measure."""
    first, second = np.zeros((2, 6, 2, 24, 1))
    both = list(Cell).index(Cell.BOTH)
    first[both, :, 7], second[both, :, 7] = 50.0, 50.0
    part = scores(first, second)
    values = factorial.measure(part, part.latents, np.zeros(1)).contrasts()
    assert (values.own[:, 7, 0] != 0).all()
    assert factorial.confirm(Confirmation(values), None, CONFIG).p.tolist() == [[1.0]] * 4


def test_few_scenarios_and_a_red_instrument_cap_what_is_said() -> None:
    """Under 20 confirmation scenarios a finding is observed; what the gate caps is not above it."""
    rules = [RULES["and"], *noise(np.random.default_rng(0), 20)]
    few = scan(halves(1, rules, n=(16, 18)), owners={0: ("a",)})
    assert [f.rung for f in few.findings] == [Rung.OBSERVED] == [few.rung]
    assert few.findings[0].reason == "exploratory: 18 confirmation scenarios, at least 20 needed"
    red = scan(halves(1, rules), owners={0: ("a",)}, limits=Gate(Rung.UNRESOLVED, "the instrument is red here"))
    assert [f.rung for f in red.findings] == [Rung.UNRESOLVED] == [red.rung]
    assert red.reason.startswith("the instrument is red here; discovery chose")


def test_discovery_gives_no_number_of_an_effect() -> None:
    """Discovery ten times as loud leaves every effect as it is; confirmation twice as loud doubles it."""
    data = halves(2, [RULES["suppression"], RULES["facilitation"], *noise(np.random.default_rng(0), 30)])

    def louder(part: MixScores, by: float) -> MixScores:
        return replace(part, first=part.first * by, second=part.second * by)

    plain = scan(data).findings
    assert {f.latent for f in plain} == {0, 2}
    found = scan(replace(data, discovery=Discovery(louder(data.discovery.data, 10.0)))).findings
    assert [f.effects for f in found] == [f.effects for f in plain]
    doubled = scan(replace(data, confirmation=Confirmation(louder(data.confirmation.data, 2.0)))).findings
    assert effect(doubled[0], MixMeasure.ALIGNED_A) == pytest.approx(
        [2 * value for value in effect(plain[0], MixMeasure.ALIGNED_A)]
    )


def test_the_scan_says_how_discovery_chose() -> None:
    """16 scenarios have no p of 0.05 / 1720, so max-T chooses, and the words are the same; 24 scenarios have it."""
    rules = [RULES["and"], RULES["suppression"], RULES["xor"], *noise(np.random.default_rng(0), 427)]
    coarse, fine = scan(halves(2, rules)), scan(halves(2, rules, n=(24, 24)))
    assert coarse.reason == (
        "discovery chose among 1720 tests by max-T: with 16 scenarios no p is below 3e-05, too coarse for"
        " Benjamini-Hochberg"
    )
    assert fine.reason == "discovery chose among 1720 tests by Benjamini-Hochberg"
    said = {0: SAID["and"], 2: SAID["suppression"], 4: SAID["xor"]}
    assert {f.latent: set(f.words) for f in coarse.findings} == said
    assert {f.latent: set(f.words) for f in fine.findings} == said
    assert coarse.placebo_findings <= coarse.relabellings * (0.05 + 2 * sqrt(0.05 * 0.95 / coarse.relabellings))


def test_nothing_to_test_is_unresolved() -> None:
    """A mix in which no feature is live, or without confirmation, says so."""
    silent = halves(0, [lambda _a, _b, _p, _front: (0.0, 0.0)] * 3)
    found = scan(silent, config=replace(CONFIG, min_firing_scenarios=16))
    assert (found.rung, found.scan_tested) == (Rung.UNRESOLVED, 0)
    assert found.reason == "no feature fires in 16 or more discovery scenarios of the mix"
    assert scan(halves(0, [RULES["and"]], n=(16, 0))).reason == "the mix has no confirmation scenario with every cell"


def test_the_seed_does_not_decide() -> None:
    """Another seed gives the same findings with the same p-values."""
    data = halves(4, [RULES["and"], RULES["xor"], *noise(np.random.default_rng(1), 30)])
    assert scan(data, seed=1).findings == scan(data, seed=2).findings
