"""Running the upper layers alone gives what the whole model gives, or is not done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audit.capture import outputs
from audit.capture.model import LoadedModel
from audit.capture.outputs import SplicedPrompt, splice
from audit.capture.prompts import TokenisedPrompt, tokenise
from audit.capture.resuming import can_resume, resumed_at
from audit.capture.runner import Station
from audit.capture.sae_sources import load_sae
from audit.capture.sites import Site, SiteKind
from audit.config import PromptFormat
from tests.capture.conftest import TEXTS
from tests.capture.test_runner import prompt
from tests.capture.test_sae import write_sae

SITES = (Site(SiteKind.RESID_POST, 2), Site(SiteKind.MLP_OUT, 1))


def prompts_for(model: LoadedModel) -> tuple[TokenisedPrompt, ...]:
    """Return a few prompts of unequal length."""
    return tuple(tokenise(model, prompt(n, f"{n} {text}"), PromptFormat.PLAIN) for n, text in enumerate(TEXTS[:3]))


def spliced(model: LoadedModel, site: Site, folder: Path) -> Sequence[SplicedPrompt]:
    """Splice a random SAE at a site."""
    sae = load_sae(str(write_sae(folder / str(site), site="resid_post.1")))
    record = replace(sae.record, site=str(site), target=str(site))
    station = Station(site, (replace(sae, record=record),), 1e9)
    return splice(model, station, prompts_for(model), batch_tokens=60, ablation=torch.zeros(32), seed=0)


def test_splicing_is_the_same_with_and_without(
    any_wiring: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every architecture: cross-entropies and divergences agree to rounding, at sites of a stream and of a branch."""
    for site in SITES:
        resumed = spliced(any_wiring, site, tmp_path / "a")
        with monkeypatch.context() as patch:
            patch.setattr(outputs, "can_resume", lambda *_: False)
            whole = spliced(any_wiring, site, tmp_path / "b")
        for one, other in zip(resumed, whole, strict=True):
            assert one.kl == pytest.approx(other.kl, rel=1e-3, abs=1e-5)
            assert one.ce_spliced == pytest.approx(other.ce_spliced, rel=1e-4)
            assert one.ce_ablated == pytest.approx(other.ce_ablated, rel=1e-4)
            assert one.kl_random == pytest.approx(other.kl_random, rel=1e-3, abs=1e-5)
        assert max(row.kl for row in resumed) > 1e-4


def test_the_lower_layers_run_once_a_batch(small_model: LoadedModel, tmp_path: Path) -> None:
    """One pass of four, and one to try it; the layer of the site and those above run for every variant."""
    calls = [0] * len(small_model.layers)
    hooks = []
    for number, layer in enumerate(small_model.layers):
        own = layer.self_attn

        def note(*_: Any, number: int = number) -> None:
            calls[number] += 1

        hooks.append(own.register_forward_hook(note))
    spliced(small_model, Site(SiteKind.RESID_POST, 2), tmp_path)
    for hook in hooks:
        hook.remove()
    batches = calls[0] - 1
    assert batches >= 1
    assert calls == [batches + 1, batches + 1, 4 * batches + 2, 4 * batches + 2]


def test_the_model_is_as_before_afterwards(small_model: LoadedModel) -> None:
    """Also when the pass fails."""
    layers = small_model.layers
    before = [dict(layer.__dict__) for layer in layers]
    with pytest.raises(RuntimeError), resumed_at(layers, 2, torch.zeros(1, 3, 32)):
        raise RuntimeError
    assert [dict(layer.__dict__) for layer in layers] == before


def test_a_model_with_a_second_stream_is_run_whole(small_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upper layers that read what a lower one left behind: found by trying, and not resumed."""
    left: list[Tensor] = []
    layers = small_model.layers
    ids = torch.tensor([[5, 6, 7, 8]])
    entering: list[Tensor] = []
    layers[2].register_forward_pre_hook(lambda _, given: entering.append(given[0]))

    def run() -> Tensor:
        with torch.inference_mode():
            logits: Tensor = small_model.model(input_ids=ids).logits
            return logits

    run()
    layers[2]._forward_pre_hooks.clear()
    assert can_resume(layers, 2, run, entering[0])
    assert not can_resume(layers, 0, run, entering[0])
    first, last = layers[0].forward, layers[3].forward

    def leaving(*given: Any, **named: Any) -> Any:
        left.append(torch.ones(1))
        return first(*given, **named)

    def taking(*given: Any, **named: Any) -> Any:
        return last(*given, **named) * left.pop()

    monkeypatch.setattr(layers[0], "forward", leaving)
    monkeypatch.setattr(layers[3], "forward", taking)
    assert not can_resume(layers, 2, run, entering[0])


def test_a_layer_that_adds_in_place_changes_no_later_pass(small_model: LoadedModel) -> None:
    """Each pass starts from what entered, not from what the one before left."""
    layers = small_model.layers
    own = layers[2].forward
    entering = torch.zeros(1, 4, 32)

    def in_place(hidden: Tensor, *given: Any, **named: Any) -> Any:
        hidden += 1
        return own(hidden, *given, **named)

    layers[2].forward = in_place
    try:
        with resumed_at(layers, 2, entering), torch.inference_mode():
            first, second = (small_model.model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits for _ in range(2))
    finally:
        del layers[2].__dict__["forward"]
    assert torch.equal(first, second)
    assert torch.equal(entering, torch.zeros(1, 4, 32))
