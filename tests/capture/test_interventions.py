"""Interventions: the batched engine gives what one whole forward pass an intervention gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from audit.capture.fitting import fit_sae
from audit.capture.interventions import Delta, Held, Interventions, Responses, combined
from audit.capture.model import LoadedModel, load_model
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt, tokenise
from audit.capture.runner import Station
from audit.capture.sae_sources import SHIPPED, load_sae
from audit.capture.sites import Site, SiteKind, parse_site, replaced_site
from audit.config import ModelConfig, PromptFormat
from audit.errors import ConfigError, EvidenceError, SaeInvalid, ShapeMismatch
from tests.capture.conftest import TEXTS
from tests.capture.test_runner import prompt
from tests.capture.test_sae import write_sae

OUTCOME = OutcomeTokens(target=40, foil=70)


def station_at(site: Site, folder: Path, limit: float = 1e9) -> Station:
    """Return a random SAE at a site."""
    sae = load_sae(str(write_sae(folder / str(site), site="resid_post.1", name=f"sae-{site}")))
    return Station(site, (replace(sae, record=replace(sae.record, site=str(site), target=str(site))),), limit)


def prompts_for(
    model: LoadedModel, form: PromptFormat = PromptFormat.CHAT
) -> tuple[tuple[TokenisedPrompt, OutcomeTokens], ...]:
    """Return a few prompts of unequal length with an outcome."""
    return tuple((tokenise(model, prompt(n, f"{n} {text}"), form), OUTCOME) for n, text in enumerate(TEXTS[:3]))


def plainly(
    model: LoadedModel, held: Held, deltas: Sequence[Delta], site: Site, later: Station | None = None
) -> Responses:
    """Answer by one whole forward pass an intervention."""
    outcomes, kls, maxima = [], [], []
    ids = torch.tensor([held.prompt.ids], device=model.device)

    def last(change: Tensor) -> tuple[Tensor, Tensor | None]:
        seen: list[Tensor] = []

        def note(activation: Tensor) -> Tensor:
            seen.append(activation.clone())
            return activation

        with torch.inference_mode(), replaced_site(model.layers, site, lambda x: x + change.to(x.dtype)):
            if later is None:
                return model.model(input_ids=ids).logits[0, -1].double(), None
            with replaced_site(model.layers, later.site, note):
                logits = model.model(input_ids=ids).logits[0, -1].double()
            return logits, seen[0][0]

    nothing = torch.zeros(held.positions, held.fired.source.shape[1])
    clean, _ = last(nothing)
    for delta in deltas:
        change = nothing.clone()
        for place, vector in zip(delta.positions, delta.vectors, strict=True):
            change[place] += vector
        logits, activation = last(change)
        p, q = torch.log_softmax(clean, -1), torch.log_softmax(logits, -1)
        outcomes.append(float(logits[OUTCOME.target] - logits[OUTCOME.foil]))
        kls.append(float((p.exp() * (p - q)).sum()))
        if later is not None and held.later is not None and activation is not None:
            dense = torch.zeros(held.later.sae.record.latents)
            rows = held.later.sae.encode(activation[held.later.kept].float())
            for latent, value in zip(rows.latent.tolist(), rows.activation.tolist(), strict=True):
                dense[latent] = max(float(dense[latent]), value)
            maxima.append(dense.numpy())
    return Responses(np.array(outcomes), np.array(kls), np.stack(maxima) if maxima else None)


def some_deltas(held: Held) -> list[Delta]:
    """Return lowerings of several latents, some of them together, a sham, the error, and nothing."""
    rows = held.fired.rows
    latents = torch.unique(rows.latent).tolist()[:6]
    lowered = [held.lowering(latent, 0.0) for latent in latents]
    direction = torch.randn(held.fired.source.shape[1], generator=torch.Generator().manual_seed(5))
    return [
        *lowered,
        held.lowering(latents[0], held.maximum(latents[0]) / 2),
        combined([lowered[0], lowered[1]]),
        held.pushed(direction, lowered[2]),
        held.removing_error(),
        Delta.none(held.fired.source.shape[1]),
    ]


def assert_equal(found: Responses, expected: Responses, *, rtol: float = 1e-3, atol: float = 2e-5) -> None:
    """Compare answers to rounding."""
    np.testing.assert_allclose(found.outcome, expected.outcome, rtol=rtol, atol=atol)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=rtol, atol=atol)
    if expected.downstream is not None:
        assert found.downstream is not None
        np.testing.assert_allclose(found.downstream, expected.downstream, rtol=rtol, atol=10 * atol)


def test_every_architecture_answers_as_one_whole_pass_an_intervention(any_wiring: LoadedModel, tmp_path: Path) -> None:
    """Outcome, divergence and features of a later SAE, at a site of the stream and one of a branch."""
    later = station_at(Site(SiteKind.RESID_POST, 2), tmp_path)
    for site in (Site(SiteKind.RESID_POST, 1), Site(SiteKind.MLP_OUT, 1)):
        engine = Interventions(any_wiring, station_at(site, tmp_path), downstream=later, batch_tokens=60)
        for held in engine.hold(prompts_for(any_wiring)):
            deltas = some_deltas(held)
            found = engine.run(held, deltas)
            expected = plainly(any_wiring, held, deltas, site, later)
            assert_equal(found, expected)
            assert np.abs(expected.outcome - held.outcome).max() > 3e-4
