"""Side by side: where the features that changed fire most on each model, token by token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audit.differences.comparing import compare_bundles
from audit.differences.contexts import MOST_CHANGED, MOST_MOVED, STRONGEST
from audit.differences.parents import Opened
from audit.evidence.scores import read_contexts
from audit.evidence.store import Store
from audit.progress import Silent
from audit.records import DifferenceResult, DiffMargins, Quantile, RowKind, Verdict
from tests.differences_making import CONCEPTS, Edit, Version, opened, order, own_features
from tests.reports.fixtures.basics import OTHER_SAE, SAE

Make = Callable[[Version], Opened]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that writes the evidence of a version once."""
    made: dict[str, Opened] = {}

    def one(version: Version) -> Opened:
        if repr(version) not in made:
            made[repr(version)] = opened(tmp_path_factory.mktemp("version") / "bundle", version)
        return made[repr(version)]

    return one


def compared(base: Opened, new: Opened) -> DifferenceResult:
    """Return the comparison with the method's margins."""
    return compare_bundles(base, new, margins=DiffMargins(), progress=Silent())


def strongest(folder: Path, sae: str, latent: int) -> list[str]:
    """Return the prompts that the bundle's own cards would show first for a latent."""
    with Store(folder) as store:
        found = read_contexts(store, sae=sae, latents=[latent], most=STRONGEST)[latent]
    return [one.prompt for one in found if one.quantile is Quantile.TOP]


def test_the_changed_features_are_shown_on_both_models(make: Make) -> None:
    """Only they are, with the strongest prompts of each bundle and the edit in the numbers of the tokens."""
    latent = own_features(CONCEPTS[1])[3]
    base, new = make(Version()), make(Version(edits=(Edit(latent, 1.5, 0.2),)))
    result = compared(base, new)
    (shown,) = result.contexts
    assert (shown.sae, shown.new_sae, shown.base_latent, shown.new_latent) == (SAE, SAE, latent, latent)
    changed = [row.id for row in result.rows if row.verdict is Verdict.CHANGED and row.kind is RowKind.FEATURE]
    assert list(shown.rows) == changed
    for place, folder in (("base_place", base.folder), ("new_place", new.folder)):
        found = {one.prompt: getattr(one, place) for one in shown.contexts if getattr(one, place) is not None}
        assert sorted(found, key=found.__getitem__) == strongest(folder, SAE, latent)
    on_concept = [one for one in shown.contexts if one.concept == CONCEPTS[1] and one.arm == "concept"]
    assert on_concept
    for context in on_concept:
        assert max(token.new - token.base for token in context.tokens) == pytest.approx(1.5, abs=0.7)
        assert context.tokens[0].text == " word2"


def test_without_a_change_the_largest_shifts_are_shown(make: Make) -> None:
    """At most four of them, the largest first."""
    result = compared(make(Version()), make(Version(noise=2**-8, seed=1)))
    assert result.counts[Verdict.CHANGED.value] == 0
    assert len(result.contexts) == MOST_MOVED
    effects = {row.id: abs(row.effect or 0) for row in result.rows if row.kind is RowKind.FEATURE}
    first = [max(effects[one] for one in shown.rows) for shown in result.contexts]
    assert first == sorted(effects.values(), reverse=True)[:MOST_MOVED]


def test_identical_evidence_has_nothing_to_show(make: Make) -> None:
    """No feature moved."""
    assert compared(make(Version()), make(Version())).contexts == ()


def test_partners_of_another_sae_are_named_by_both_numbers(make: Make) -> None:
    """Each side reads its own SAE's latent on the same tokens."""
    result = compared(make(Version()), make(Version(permuted=True, edits=(Edit(7, 1.5, 0.2),))))
    (shown,) = result.contexts
    assert (shown.new_sae, shown.base_latent, shown.new_latent) == (OTHER_SAE, 7, int(order()[7]))
    fired = [(token.base > 0, token.new > 0) for context in shown.contexts for token in context.tokens]
    assert (True, True) in fired
    assert all(base == new for base, new in fired)


def test_many_changes_are_shown_up_to_a_limit(make: Make) -> None:
    """With every feature edited, twelve are shown, those with the surest change first."""
    edits = tuple(Edit(latent, 1.0 + 0.1 * latent, 0.3) for concept in CONCEPTS for latent in own_features(concept))
    result = compared(make(Version()), make(Version(edits=edits)))
    assert result.counts[Verdict.CHANGED.value] > MOST_CHANGED
    assert len(result.contexts) == MOST_CHANGED
    q = {row.id: row.q_value for row in result.rows}
    first = [min(q[one] for one in shown.rows) for shown in result.contexts]
    assert first == sorted(first)
    assert max(first) <= min(
        row.q_value
        for row in result.rows
        if row.verdict is Verdict.CHANGED
        and row.kind is RowKind.FEATURE
        and not any(row.id in shown.rows for shown in result.contexts)
    )
