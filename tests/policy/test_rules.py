"""Each kind of rule passes, fails and stays unresolved on a sealed bundle that holds every case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audit.policy.bounds import estimate_at_most, magnitude_at_most, number_at_most
from audit.policy.files import Policy
from audit.policy.judging import judge
from audit.policy.subjects import Difference, Subject
from audit.records import Estimate, PartDifference, RuleOutcome, RuleVerdict, Verdict
from audit.signing.attested import VerifyResult
from tests.policy.conftest import HEAD, TODAY, rule
from tests.reports.fixtures.audits import make_findings

PASS, FAIL, OPEN = RuleOutcome.PASS, RuleOutcome.FAIL, RuleOutcome.UNRESOLVED
SMOL = "smollm2-135m-instruct.resid_post."
MAIN = f'saes = ["{SMOL}15"]'
CASES = [
    (f'fidelity = {{ colour_at_least = "amber", {MAIN} }}', PASS),
    ('fidelity = { colour_at_least = "amber" }', FAIL),
    ("fidelity = { fvu_at_most = 0.6 }", PASS),
    ("fidelity = { delta_ce_at_most = 0.09 }", OPEN),
    ("fidelity = { delta_ce_at_most = 0.05 }", FAIL),
    (f'fidelity = {{ delta_ce_at_most = 0.2, concepts = ["insider_trading"], {MAIN} }}', OPEN),
    (f'fidelity = {{ colour_at_least = "green", concepts = ["dosing_error"], {MAIN} }}', PASS),
    ('fidelity = { colour_at_least = "red", saes = ["another"] }', OPEN),
    ('fidelity = { colour_at_least = "red", concepts = ["another"] }', OPEN),
    ("control = { }", PASS),
    ("control = { rate_at_most = 0.01 }", FAIL),
    ("unresolved = { share_at_most = 0.5 }", PASS),
    ('unresolved = { share_at_most = 0.1, contrasts = ["topic"], saes = ["*"] }', FAIL),
    ('unresolved = { share_at_most = 1.0, concepts = ["another"] }', OPEN),
    ('rung = { contrasts = ["topic"], at_least = "confirmed", concepts = ["dosing_error"] }', PASS),
    ('rung = { contrasts = ["distinction"], at_least = "confirmed", concepts = ["dosing_error"] }', FAIL),
    ('rung = { contrasts = ["topic"], at_most = "associated", concepts = ["dosing_error"] }', FAIL),
    ('rung = { contrasts = ["distinction"], at_most = "associated", concepts = ["dosing_error"] }', PASS),
    ('rung = { contrasts = ["topic"], at_most = "associated", concepts = ["insider_trading"] }', OPEN),
    ('rung = { contrasts = ["topic"], at_most = "associated", concepts = ["civilian_harm"] }', OPEN),
    ('rung = { contrasts = ["topic"], at_most = "associated", concepts = ["another"] }', OPEN),
    ('rung = { contrasts = ["topic"], effect_at_most = 0.01, concepts = ["dosing_error"] }', FAIL),
    ('rung = { contrasts = ["distinction"], effect_at_most = 0.01, concepts = ["dosing_error"] }', PASS),
    (
        'reading = { contrasts = ["topic"], allowed = ["represented and decomposed"], concepts = ["dosing_error"] }',
        PASS,
    ),
    (
        'reading = { contrasts = ["topic"], allowed = ["not represented at this site"], concepts = ["dosing_error"] }',
        FAIL,
    ),
    ('reading = { contrasts = ["topic"], allowed = ["suspect"], concepts = ["insider_trading"] }', PASS),
    ('reading = { contrasts = ["distinction"], allowed = ["suspect"], concepts = ["civilian_harm"] }', OPEN),
    ('effects = { concepts = ["insider_trading"], causal_at_most = 1 }', PASS),
    ('effects = { concepts = ["insider_trading"], causal_at_most = 0 }', FAIL),
    ('effects = { concepts = ["dosing_error"], causal_at_most = 5 }', OPEN),
    ('effects = { concepts = ["civilian_harm"], causal_at_most = 5 }', OPEN),
    ('effects = { concepts = ["dosing_error"], tested_at_least = 3 }', PASS),
    ('effects = { concepts = ["dosing_error"], tested_at_least = 4 }', FAIL),
    ('effects = { concepts = ["insider_trading"], causal_at_least = 1 }', PASS),
    ('effects = { concepts = ["insider_trading"], effect_at_most = 0.4 }', PASS),
    ('effects = { concepts = ["insider_trading"], effect_at_most = 0.2 }', FAIL),
    ('effects = { concepts = ["insider_trading"], effect_at_most = 0.3 }', OPEN),
    ('interactions = { confirmed_at_most = 13, mixes = ["dosing_insider"] }', PASS),
    ('interactions = { confirmed_at_most = 0, words = ["emergent"], mixes = ["dosing_insider"] }', FAIL),
    ('interactions = { confirmed_at_most = 0, mixes = ["insider_harm"] }', OPEN),
    ('interactions = { confirmed_at_most = 0, mixes = ["dosing_harm"] }', OPEN),
    ('interactions = { confirmed_at_most = 0, mixes = ["another"] }', OPEN),
    ('interactions = { of = "pairs", confirmed_at_most = 1, mixes = ["dosing_insider"] }', FAIL),
    ('interactions = { of = "pairs", confirmed_at_most = 2, mixes = ["dosing_insider"] }', OPEN),
    ('coverage = { concepts = ["dosing_error"], frameworks = ["hipaa/sec_164_312_c"] }', PASS),
    ('coverage = { concepts = ["another"] }', FAIL),
    ('coverage = { mixes = ["dosing_harm"] }', OPEN),
    ('coverage = { suites = ["healthcare"] }', PASS),
    ("plan = { signed = true }", FAIL),
    ("seal = { pinned = true }", PASS),
    ("seal = { timestamp = true }", OPEN),
    (f'seal = {{ fingerprints = ["sha256:{"0" * 64}"] }}', FAIL),
    ("sql = { select = \"SELECT * FROM reading WHERE reading = 'no such reading'\" }", PASS),
    ('sql = { select = "SELECT concept FROM reading" }', FAIL),
    ('sql = { select = "SELECT count(*) FROM prompt", at_least = 1 }', PASS),
    ('sql = { select = "SELECT count(*) FROM prompt", at_most = 1 }', FAIL),
    ('sql = { select = "SELECT count(*) FROM activation", at_least = 1 }', PASS),
    ('sql = { select = "SELECT 1 FROM splice WHERE false" }', OPEN),
    ('sql = { select = "SELECT 0 FROM prompt WHERE false", at_most = 1 }', OPEN),
    ('sql = { select = "SELECT NULL::DOUBLE", at_most = 1 }', OPEN),
    ("sql = { select = \"SELECT 'nan'::DOUBLE\", at_most = 1 }", OPEN),
    ("sql = { select = \"SELECT 'inf'::DOUBLE\", at_least = 1 }", OPEN),
]


@pytest.mark.parametrize(("kind", "expected"), CASES, ids=[kind for kind, _ in CASES])
def test_a_rule_says_what_the_record_holds(kind: str, expected: RuleOutcome, one: Callable[[str], RuleVerdict]) -> None:
    """Pass, fail and unresolved; what is not known is never a pass, and each verdict has figures or a reason."""
    verdict = one(kind)
    assert verdict.outcome is expected, verdict.said
    assert verdict.points
    assert verdict.stops is (expected is not PASS)


def test_nothing_is_read_where_the_control_fails(policy: Callable[[str], Policy], seal: VerifyResult) -> None:
    """Findings of a procedure that finds things in shuffled labels pass no rule, and fail none."""
    whole = make_findings()
    broken = replace(whole, permutation_control=replace(whole.permutation_control, passed=False))
    text = HEAD + "".join(
        f'[[rule]]\nid = "r{n}"\nwhy = "w"\n{kind}\n'
        for n, kind in enumerate(
            (
                'rung = { contrasts = ["topic"], at_least = "observed", at_most = "confirmed" }',
                'reading = { contrasts = ["topic"], allowed = ["represented and decomposed"] }',
                "effects = { tested_at_least = 0 }",
                "interactions = { confirmed_at_most = 1000 }",
            )
        )
    )
    verdict = judge(policy(text), Subject(seal, findings=broken), today=TODAY)
    assert [each.outcome for each in verdict.rules] == [OPEN] * 4
    assert not verdict.passed


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.5, 0.5, PASS), (-1.1, 0.5, OPEN), (0.9, 1.1, OPEN), (1.1, 2.0, FAIL), (-3.0, -1.1, FAIL), (None, None, OPEN)],
)
def test_a_bound_is_kept_by_the_whole_interval(low: float | None, high: float | None, expected: RuleOutcome) -> None:
    """An interval that crosses the bound is unresolved, and so is an estimate without one."""
    middle = 0.0 if low is None or high is None else (low + high) / 2
    assert magnitude_at_most(Estimate(middle, low, high), 1.0, place="p", what="w").outcome is expected


def test_what_was_not_measured_keeps_no_bound() -> None:
    """None and NaN are unresolved against every kind of bound."""
    assert estimate_at_most(None, 1.0, place="p", what="w").outcome is OPEN
    assert magnitude_at_most(Estimate(float("nan"), 0.0, 0.0), 1.0, place="p", what="w").outcome is OPEN
    assert number_at_most(float("nan"), 1.0, place="p", what="w").outcome is OPEN


def _changes(*changes: tuple[str, Verdict]) -> Difference:
    return Difference("base to new", tuple(_part(name, verdict) for name, verdict in changes))


def _part(name: str, verdict: Verdict) -> PartDifference:
    return PartDifference(
        id=name, title=name, domain="tests", verdict=verdict, reason="d", rank=1, shift=None, detectable=None,
        rows=1, changed=0, equivalent=0, inconclusive=0, ratio=9.0, ratio_p=0.001, outlying=name == "b",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ('difference = { changed_at_most = 1, concepts = ["a", "b", "c"] }', PASS),
        ("difference = { changed_at_most = 1 }", OPEN),
        ("difference = { changed_at_most = 0 }", FAIL),
        ('difference = { changed_at_most = 0, concepts = ["a"] }', PASS),
        ('difference = { outlying_at_most = 0, concepts = ["a", "c"] }', PASS),
        ("difference = { outlying_at_most = 0 }", FAIL),
        ('difference = { outlying_at_most = 0, concepts = ["a", "d"] }', OPEN),
        ('difference = { equivalent = ["a"] }', PASS),
        ('difference = { equivalent = ["b"] }', FAIL),
        ('difference = { equivalent = ["c"] }', OPEN),
        ('difference = { equivalent = ["d"] }', OPEN),
        ('difference = { equivalent = ["z"] }', OPEN),
        ("difference = { inconclusive_at_most = 0.5 }", PASS),
        ("difference = { inconclusive_at_most = 0.1 }", FAIL),
    ],
)
def test_rules_about_differences(
    kind: str, expected: RuleOutcome, policy: Callable[[str], Policy], seal: VerifyResult
) -> None:
    """Inconclusive is no proof of equivalence, and a concept that was not compared keeps no rule."""
    verdicts = {"a": Verdict.EQUIVALENT, "b": Verdict.CHANGED, "c": Verdict.INCONCLUSIVE, "d": Verdict.NOT_COMPARABLE}
    difference = _changes(*verdicts.items())
    verdict = judge(policy(rule(kind)), Subject(seal, difference=difference), today=TODAY, base="base")
    assert verdict.rules[0].outcome is expected


def test_the_policies_that_ship_are_sound(policy: Callable[[str], Policy]) -> None:
    """Each is read without a violation and has rules of both severities or more than five."""
    import templates

    folder = Path(str(templates.__file__)).parent / "policies"
    files = sorted(folder.glob("*.toml"))
    assert [file.stem for file in files] == ["defense", "finance", "healthcare"]
    for file in files:
        assert len(policy(file.read_text(encoding="utf-8")).rules) > 5
