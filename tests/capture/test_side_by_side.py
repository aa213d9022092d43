"""Changes of several prompts in one pass: each row has its own past, and says what it says alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from audit.capture.interventions import hold_together
from audit.capture.model import LoadedModel
from audit.capture.sites import Site, SiteKind
from tests.capture.test_interventions import STREAM, assert_equal, engine_at, plainly, prompts_for, some_deltas


def test_prompts_of_unequal_length_share_a_pass(small_model: LoadedModel, tmp_path: Path) -> None:
    """Fewer passes than prompts, the answers those of each alone; prompts may come twice, or with nothing to do."""
    engine = engine_at(small_model, STREAM, tmp_path, batch_tokens=10_000)
    held = engine.hold(prompts_for(small_model))
    assert len({one.positions for one in held}) > 1
    jobs = [(held[0], some_deltas(held[0])), (held[1], some_deltas(held[1])[:1]), (held[2], []), (held[0], ())]
    passes: list[int] = []
    hook = small_model.layers[3].register_forward_hook(lambda *call: passes.append(len(call[-1])))
    together = engine.run_all([*jobs, (held[1], some_deltas(held[1]))])
    hook.remove()
    assert len(passes) == 1
    assert_equal(together[4], engine.run(held[1], some_deltas(held[1])))
    for (one, deltas), found in zip(jobs, together, strict=False):
        assert len(found.outcome) == len(deltas)
        assert_equal(found, engine.run(one, deltas))


def test_a_model_that_takes_no_places_runs_rows_of_one_past(
    small_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where unequal pasts may not stand side by side, rows with one start do, and the answers are the same."""
    monkeypatch.setattr("audit.capture.upper_layers.UpperLayers._can_mix", lambda *_: False)
    engine = engine_at(small_model, STREAM, tmp_path, batch_tokens=10_000)
    jobs = [(held, some_deltas(held)) for held in engine.hold(prompts_for(small_model))]
    for (held, deltas), found in zip(jobs, engine.run_all(jobs), strict=True):
        assert_equal(found, plainly(small_model, held, deltas, STREAM))


def test_a_model_with_other_places_is_found_out(small_model: LoadedModel, tmp_path: Path) -> None:
    """One that ignores the places given to it says something else in a mixed pass: that is tried first."""
    own = small_model.model.forward

    def deaf(*, position_ids: Tensor | None = None, logits_to_keep: int | Tensor = 0, **more: object) -> object:
        del position_ids
        return own(logits_to_keep=logits_to_keep, **more)

    small_model.model.forward = deaf  # type: ignore[method-assign, assignment]
    try:
        engine = engine_at(small_model, STREAM, tmp_path)
        jobs = [(held, some_deltas(held)) for held in engine.hold(prompts_for(small_model))]
        found = engine.run_all(jobs)
    finally:
        del small_model.model.__dict__["forward"]
    assert engine._upper is not None
    assert not engine._upper.mixes
    for (held, deltas), one in zip(jobs, found, strict=True):
        assert_equal(one, plainly(small_model, held, deltas, STREAM))


def test_what_was_forgotten_runs_beside_what_was_kept(small_model: LoadedModel, tmp_path: Path) -> None:
    """Of two sites that shared their untouched passes each keeps what it runs again, whoever computed it."""
    early, late = STREAM, Site(SiteKind.RESID_POST, 2)
    engines = [engine_at(small_model, site, tmp_path / str(site), batch_tokens=10_000) for site in (late, early)]
    for engine, site, held in zip(
        engines, (late, early), hold_together(engines, prompts_for(small_model)), strict=True
    ):
        # One of them is computed again.
        del engine._clean[held[1].prompt.ids]
        jobs = [(one, some_deltas(one)) for one in held]
        for (one, deltas), found in zip(jobs, engine.run_all(jobs), strict=True):
            assert_equal(found, plainly(small_model, one, deltas, site))
