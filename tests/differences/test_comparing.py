"""Two versions of a model with known features: what was edited is found by name, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from audit.differences.comparing import compare_bundles
from audit.differences.parents import Opened
from audit.digests import canonical_json
from audit.errors import UsageError
from audit.progress import Silent
from audit.records import (
    Contrast,
    DifferenceResult,
    DifferenceRow,
    DiffMargins,
    Findings,
    MixMeasure,
    Respect,
    RowKind,
    Verdict,
    as_json,
    parse_record,
)
from tests.differences_making import CONCEPTS, FEATURES, LATENTS, MIX, Edit, Version, opened, order, own_features
from tests.reports.fixtures.basics import SAE

Make = Callable[[Version], Opened]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Return a function that writes the evidence of a version once."""
    made: dict[str, Opened] = {}

    def one(version: Version) -> Opened:
        key = repr(version)
        if key not in made:
            made[key] = opened(tmp_path_factory.mktemp("version") / "bundle", version)
        return made[key]

    return one


def compared(base: Opened, new: Opened, *noise: Opened, margins: DiffMargins | None = None) -> DifferenceResult:
    """Return the comparison with the method's margins."""
    return compare_bundles(base, new, noise=noise, margins=margins or DiffMargins(), progress=Silent())


def features(result: DifferenceResult) -> list[DifferenceRow]:
    """Return the rows of features."""
    return [row for row in result.rows if row.kind is RowKind.FEATURE]


def test_an_audit_is_equivalent_to_itself_in_every_row(make: Make) -> None:
    """Identical evidence has no changed and no inconclusive row, and equal inputs give equal bytes."""
    result = compared(make(Version()), make(Version()))
    assert {row.verdict for row in result.rows} == {Verdict.EQUIVALENT}
    assert len(features(result)) == FEATURES * len(CONCEPTS)
    assert {part.verdict for part in result.concepts} == {Verdict.EQUIVALENT}
    again = compared(make(Version()), make(Version()))
    assert canonical_json(as_json(result)) == canonical_json(as_json(again))


def test_a_result_is_read_back_as_it_was_written(make: Make) -> None:
    """The record survives its JSON form."""
    result = compared(make(Version()), make(Version(edits=(Edit(2, 1.0, 0.6),))))
    assert parse_record(DifferenceResult, as_json(result)) == result


def test_a_planted_edit_is_found_by_name(make: Make) -> None:
    """A feature whose score moves by one standard deviation is the only changed one; its concept ranks first."""
    latent = own_features(CONCEPTS[1])[3]
    result = compared(make(Version()), make(Version(edits=(Edit(latent, 1.0, 0.6),))))
    changed = [row for row in result.rows if row.verdict is Verdict.CHANGED]
    assert [(row.part, row.contrast, row.base_latent) for row in changed] == [(CONCEPTS[1], Contrast.TOPIC, latent)]
    assert changed[0].difference.value == pytest.approx(1.0, abs=0.5)
    assert [(part.id, part.verdict) for part in result.concepts if part.rank == 1] == [(CONCEPTS[1], Verdict.CHANGED)]
    assert {part.verdict for part in result.concepts if part.rank > 1} == {Verdict.EQUIVALENT}


def test_an_edit_below_the_margin_is_equivalent(make: Make) -> None:
    """A shift of a twentieth of a standard deviation, surely there, is no change that matters."""
    result = compared(make(Version()), make(Version(edits=(Edit(4, 0.05, 0.02),))))
    row = next(row for row in features(result) if row.base_latent == 4)
    assert row.p_value < 0.001
    assert row.verdict is Verdict.EQUIVALENT
    assert row.margin is not None
    assert row.low_90 > 0
    part = next(part for part in result.concepts if part.id == CONCEPTS[0])
    assert part.detectable is not None
    assert part.detectable < DiffMargins().scenario_sd
    assert row.high_90 < row.margin


def test_exchanging_the_two_negates_effects_and_keeps_verdicts(make: Make) -> None:
    """Which of two bundles is called new decides nothing but signs."""
    base, new = make(Version()), make(Version(edits=(Edit(1, 0.5, 0.5), Edit(8, 0.3, 0.9)), noise=0.01, seed=4))
    one, other = compared(base, new), compared(new, base)
    assert len(one.rows) == len(other.rows)
    for row, back in zip(one.rows, other.rows, strict=True):
        assert (row.id, row.verdict, row.p_value, row.q_value) == (back.id, back.verdict, back.p_value, back.q_value)
        assert row.difference.value == pytest.approx(-back.difference.value)
        assert (row.low_90, row.high_90) == (pytest.approx(-back.high_90), pytest.approx(-back.low_90))


def test_rounding_noise_changes_nothing(make: Make) -> None:
    """In 20 versions with the rounding of bf16, drawn anew, no row changes: the rate of false alarms is at most q."""
    found = [compared(make(Version()), make(Version(noise=2**-8, seed=seed))) for seed in range(20)]
    assert [result.counts[Verdict.CHANGED.value] for result in found] == [0] * 20
    assert all(row.verdict is Verdict.EQUIVALENT for result in found for row in features(result))
    assert {part.verdict for result in found for part in (*result.concepts, *result.mixes)} == {Verdict.EQUIVALENT}


def test_a_change_must_exceed_the_noise_floor(make: Make) -> None:
    """A difference that another run of the base's own model shows too is inconclusive, not changed."""
    edited = Version(edits=(Edit(3, 0.8, 0.3),))
    without = compared(make(Version()), make(edited))
    assert [row.base_latent for row in features(without) if row.verdict is Verdict.CHANGED] == [3]
    assert "noise floor" in without.not_measured[0]
    noisy = make(Version(edits=(Edit(3, 1.2, 0.3),)))
    held = compared(make(Version()), make(edited), noisy)
    row = next(row for row in features(held) if row.base_latent == 3)
    assert row.verdict is Verdict.INCONCLUSIVE
    assert row.noise_floor is not None
    assert row.noise_floor > abs(row.difference.value)
    assert not any("noise floor" in line for line in held.not_measured)


def test_noise_of_another_model_is_refused(make: Make) -> None:
    """What another model differs by is no noise of the base."""
    with pytest.raises(UsageError, match="noise"):
        compared(make(Version()), make(Version()), make(Version(model="another")))


def test_a_shifted_answer_is_found(make: Make) -> None:
    """An answer that moves on the concept arm alone changes both rows of the answer of that concept, and no other."""
    result = compared(make(Version()), make(Version(answer=0.8)))
    changed = {(row.part, row.kind) for row in result.rows if row.verdict is Verdict.CHANGED}
    assert changed == {(CONCEPTS[0], RowKind.OUTCOME), (CONCEPTS[0], RowKind.ANSWER)}


def test_a_planted_synergy_is_a_change_of_the_mix(make: Make) -> None:
    """A feature that fires more only where both concepts are changes rows of the mix, and none of a concept."""
    result = compared(make(Version()), make(Version(synergy=4.0)))
    changed = [row for row in result.rows if row.verdict is Verdict.CHANGED]
    assert {(row.part, row.kind, row.base_latent) for row in changed} == {(MIX, RowKind.INTERACTION, 0)}
    assert MixMeasure.ADDITIVE.value in {row.measure for row in changed}
    assert [part.verdict for part in result.mixes] == [Verdict.CHANGED]


def test_a_loss_that_fell_on_one_concept_alone_stands_out(make: Make) -> None:
    """It is measured beside neutral texts of the same form; a drift of all of them is no news."""
    result = compared(make(Version()), make(Version(drift=-0.3, loss=-0.5)))
    parts = {part.id: part for part in result.concepts}
    changes = {name: part.loss_change for name, part in parts.items()}
    assert changes == {CONCEPTS[0]: pytest.approx(-0.5, abs=0.01)} | dict.fromkeys(
        CONCEPTS[1:], pytest.approx(0.0, abs=0.01)
    )
    assert {part.loss_scenarios for part in result.concepts} == {64}
    assert parts[CONCEPTS[0]].respect is Respect.LOSS
    ratio = parts[CONCEPTS[0]].ratio
    assert ratio is not None
    assert ratio > 20
    # No row changed: what stands out is then no alarm about a change.
    assert not any(part.outlying for part in result.concepts)
    assert parts[CONCEPTS[0]].rank == 1


def test_what_stands_out_comes_first_and_then_the_loss_orders(make: Make) -> None:
    """A feature that moved by far the most is an alarm; of the others, that one leads whose texts became likelier."""
    result = compared(make(Version()), make(Version(drift=-0.3, loss=-0.5, edits=(Edit(9, 1.2, 0.5),))))
    parts = {part.rank: part for part in result.concepts}
    assert [(parts[rank].id, parts[rank].outlying) for rank in (1, 2)] == [
        ("insider_trading", True),
        (CONCEPTS[0], False),
    ]
    assert parts[2].order_p is not None
    assert parts[3].order_p is not None
    assert parts[2].order_p < parts[3].order_p


def test_permuted_latents_are_matched(make: Make) -> None:
    """An SAE with its latents in another order is recognised latent by latent, and nothing changed."""
    result = compared(make(Version()), make(Version(permuted=True)))
    (pair,) = result.instruments
    assert pair.matching is not None
    assert pair.matching.matched >= 0.99 * pair.matching.live_base
    numbers = order()
    rows = features(result)
    assert len(rows) == FEATURES * len(CONCEPTS)
    assert all(row.new_latent == numbers[row.base_latent or 0] for row in rows)
    assert result.counts[Verdict.CHANGED.value] == 0
    assert not pair.matching.asked_unmatched_base


def test_an_edit_is_found_through_a_permuted_sae(make: Make) -> None:
    """What changed is named by the base's latent and by the new SAE's."""
    result = compared(make(Version()), make(Version(permuted=True, edits=(Edit(7, 1.2, 0.5),))))
    changed = [(row.base_latent, row.new_latent) for row in features(result) if row.verdict is Verdict.CHANGED]
    assert changed == [(7, int(order()[7]))]


def test_latents_of_an_unrelated_sae_are_unmatched_and_never_new(make: Make) -> None:
    """An SAE with other latents gives no pair that chance does not, hence no feature row and no change."""
    result = compared(make(Version()), make(Version(other_sae=True)))
    (pair,) = result.instruments
    assert pair.matching is not None
    assert pair.matching.live_base == LATENTS
    # Features of one concept fire on the same tokens of the concept arm in any SAE, so a few may pair up.
    assert pair.matching.unmatched_base >= LATENTS - FEATURES * len(CONCEPTS)
    assert result.counts[Verdict.CHANGED.value] == 0
    assert "new" not in {verdict.value for verdict in Verdict}


def test_features_of_an_sae_that_is_less_faithful_are_not_compared(make: Make) -> None:
    """An FVU of 1.5 times the base's leaves the answers and the probe, which need no SAE."""
    result = compared(make(Version()), make(Version(fvu=0.24)))
    assert {row.kind for row in result.rows} == {RowKind.OUTCOME, RowKind.ANSWER, RowKind.PROBE_AUROC}
    (pair,) = result.instruments
    assert not pair.comparable
    assert "1.50 times" in pair.reason
    assert {part.verdict for part in result.concepts} == {Verdict.INCONCLUSIVE}
    assert all(SAE in part.reason for part in result.concepts)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (Version(suite="another"), "suites: digest of planted"),
        (Version(pieces="wort"), "tokens: 1728 prompts are cut into other tokens"),
        (Version(config={"analysis": {"seed": 1, "alpha": 0.05, "bootstrap": 2000}}), "configuration: analysis.seed"),
    ],
)
def test_other_questions_are_not_comparable(make: Make, version: Version, said: str) -> None:
    """Another suite, tokenizer or configuration ends without a verdict and with the reason."""
    with pytest.raises(UsageError, match="not comparable") as refused:
        compared(make(Version()), make(version))
    assert said in refused.value.found


def test_every_reason_is_named(make: Make) -> None:
    """Two reasons are both told."""
    new = make(Version())
    findings: Findings = replace(new.record.findings, format="plain")
    other = replace(new, record=replace(new.record, findings=findings))
    with pytest.raises(UsageError) as refused:
        compared(make(Version(suite="another")), other)
    assert "suites:" in refused.value.found
    assert "prompt format: format is chat in the base and plain" in refused.value.found


def test_the_emergent_measure_is_said_not_to_be_compared(make: Make) -> None:
    """What the evidence cannot give is listed with the reason."""
    result = compared(make(Version()), make(Version()))
    assert any("Emergent" in line for line in result.not_measured)
    assert any("next-token" in line for line in result.not_measured)
    assert MixMeasure.EMERGENT.value not in {row.measure for row in result.rows}
