"""Interventions: the batched engine gives what one whole forward pass an intervention gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.capture.encoder import SparseRows
from audit.capture.fitting import fit_sae
from audit.capture.interventions import Delta, Held, Interventions, Responses, combined
from audit.capture.model import LoadedModel, load_model
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt, tokenise
from audit.capture.runner import Station
from audit.capture.sae import InputNorm
from audit.capture.sae_sources import SHIPPED, load_sae
from audit.capture.sites import Site, SiteKind, replaced_site
from audit.config import ModelConfig, PromptFormat
from audit.errors import ConfigError, EvidenceError, SaeInvalid, ShapeMismatch
from tests.capture.conftest import TEXTS, save_model
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
        engine = Interventions(any_wiring, station_at(site, tmp_path), downstream=later, batch_tokens=200)
        jobs = [(held, some_deltas(held)) for held in engine.hold(prompts_for(any_wiring))]
        together = engine.run_all(jobs)
        for (held, deltas), mixed in zip(jobs, together, strict=True):
            expected = plainly(any_wiring, held, deltas, site, later)
            assert_equal(engine.run(held, deltas), expected)
            assert_equal(mixed, expected)
            assert np.abs(expected.outcome - held.outcome).max() > 3e-4


def engine_at(
    model: LoadedModel,
    site: Site,
    folder: Path,
    *,
    later: Site | None = None,
    batch_tokens: int = 60,
    limit: float = 1e9,
) -> Interventions:
    """Return an engine with a random SAE at a site, and one at a later site where it is given."""
    second = None if later is None else station_at(later, folder / "later")
    return Interventions(model, station_at(site, folder, limit), downstream=second, batch_tokens=batch_tokens)


STREAM = Site(SiteKind.RESID_POST, 1)


@pytest.mark.parametrize("kind", [kind for kind in SiteKind if kind is not SiteKind.MLP_ACT])
def test_every_kind_of_site_answers_as_whole_passes_do(
    small_model: LoadedModel, tmp_path: Path, kind: SiteKind
) -> None:
    """Read, changed and run from there on, wherever in the layer the activation lies."""
    site = Site(kind, 1)
    engine = engine_at(small_model, site, tmp_path)
    for held in engine.hold(prompts_for(small_model)[:2]):
        deltas = some_deltas(held)
        assert_equal(engine.run(held, deltas), plainly(small_model, held, deltas, site))


def test_neurons_are_a_site_too(small_model: LoadedModel, tmp_path: Path) -> None:
    """An SAE of the MLP's neurons, twice as wide as the residual stream here."""
    site, station = Site(SiteKind.MLP_ACT, 1), station_at(Site(SiteKind.MLP_ACT, 1), tmp_path)
    (sae,) = station.saes
    wide = replace(
        sae,
        w_enc=torch.cat([sae.w_enc, -sae.w_enc], dim=1),
        w_dec=torch.cat([sae.w_dec, -sae.w_dec], dim=1) / 2**0.5,
        b_dec=torch.zeros(64),
        centre=None,
    )
    engine = Interventions(small_model, replace(station, saes=(wide,)), downstream=None, batch_tokens=60)
    (held,) = engine.hold(prompts_for(small_model)[:1])
    deltas = some_deltas(held)
    assert_equal(engine.run(held, deltas), plainly(small_model, held, deltas, site))


def test_the_default_model_answers_as_whole_passes_do() -> None:
    """The shipped SAEs at layers 15 and 20: outcome, divergence and later features."""
    model = load_model(ModelConfig())
    first, second = (
        Station(one.site, (one.sae,), 1700.0) for one in (fit_sae(load_sae(name), model) for name in SHIPPED)
    )
    engine = Interventions(model, first, downstream=second, batch_tokens=256)
    text = "The nurse doubled the dose without asking the doctor. Is that allowed? Answer yes or no."
    (held,) = engine.hold([(tokenise(model, prompt(0, text), PromptFormat.CHAT), OUTCOME)])
    latents = torch.unique(held.fired.rows.latent).tolist()[:40:8]
    deltas = [*(held.lowering(latent, 0.0) for latent in latents), held.removing_error()]
    assert engine._upper is not None
    assert engine._upper.entry == 16
    assert engine._upper.keeps_past
    assert_equal(engine.run(held, deltas), plainly(model, held, deltas, first.site, second), atol=2e-4)


@pytest.mark.parametrize(("resumes", "keeps"), [(False, True), (True, False), (False, False)])
def test_a_model_that_cannot_skip_is_run_further(
    small_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, resumes: bool, keeps: bool
) -> None:
    """Without resuming, without a plain cache, and without both: the same answers."""
    if not resumes:
        monkeypatch.setattr("audit.capture.upper_layers.can_resume", lambda *_: False)
    if not keeps:
        monkeypatch.setattr("audit.capture.upper_layers.keeps_plain_cache", lambda _: False)
        monkeypatch.setattr("audit.capture.batches.keeps_plain_cache", lambda _: False)
    engine = engine_at(small_model, STREAM, tmp_path, later=Site(SiteKind.RESID_POST, 2))
    for held in engine.hold(prompts_for(small_model)):
        deltas = some_deltas(held)
        later = station_at(Site(SiteKind.RESID_POST, 2), tmp_path / str(held.prompt.id))
        assert_equal(engine.run(held, deltas), plainly(small_model, held, deltas, STREAM, later))


def test_windows_are_run_from_the_first_position(tmp_path: Path) -> None:
    """A model with sliding windows keeps no plain past; its lower layers are skipped all the same."""
    model = load_model(ModelConfig(source=str(save_model(tmp_path / "model", "mistral"))))
    engine = engine_at(model, STREAM, tmp_path)
    (held,) = engine.hold(prompts_for(model)[:1])
    assert engine._upper is not None
    assert not engine._upper.keeps_past
    assert engine._upper.resumes
    deltas = some_deltas(held)
    assert_equal(engine.run(held, deltas), plainly(model, held, deltas, STREAM))


def test_only_what_can_change_is_run(small_model: LoadedModel, tmp_path: Path) -> None:
    """Layers behind the site, positions from the first changed one on, several changes side by side."""
    engine = engine_at(small_model, STREAM, tmp_path, batch_tokens=10_000)
    (held,) = engine.hold(prompts_for(small_model)[:1])
    place = int(held.fired.kept[-2])
    deltas = [Delta(torch.tensor([place]), torch.randn(1, 32)) for _ in range(3)]
    shapes: list[tuple[int, tuple[int, ...]]] = []
    hooks = [
        layer.self_attn.q_proj.register_forward_hook(
            lambda _, __, out, number=number: shapes.append((number, tuple(out.shape[:2])))
        )
        for number, layer in enumerate(small_model.layers)
    ]
    engine.run(held, deltas)
    for hook in hooks:
        hook.remove()
    assert shapes == [(2, (3, held.positions - place)), (3, (3, held.positions - place))]


def test_nothing_changes_nothing(small_model: LoadedModel, tmp_path: Path) -> None:
    """A change of nothing is the clean answer to the last bit and costs nothing; one of zeros to rounding."""
    engine = engine_at(small_model, STREAM, tmp_path, later=Site(SiteKind.RESID_POST, 2))
    (held,) = engine.hold(prompts_for(small_model)[:1])
    before = engine.spent
    silent = next(latent for latent in range(96) if held.maximum(latent) == 0.0)
    found = engine.run(held, [Delta.none(32), held.lowering(silent, 0.0), held.lowering(3, held.maximum(3))])
    assert engine.spent == before
    assert found.outcome.tolist() == [held.outcome] * 3
    assert found.kl.tolist() == [0.0] * 3
    zeros = Delta(held.fired.kept, torch.zeros(len(held.fired.kept), 32))
    found = engine.run(held, [zeros])
    assert found.outcome[0] == pytest.approx(held.outcome, abs=1e-6)
    assert found.kl[0] == pytest.approx(0.0, abs=1e-9)
    assert found.downstream is not None
    assert held.downstream is not None
    np.testing.assert_allclose(found.downstream[0], held.downstream, atol=1e-5)


def test_changes_add_up() -> None:
    """Positions are joined, vectors at the same position added; nothing is the neutral element."""
    one = Delta(torch.tensor([2, 5]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    other = Delta(torch.tensor([3, 5]), torch.tensor([[4.0, 4.0], [1.0, -1.0]]))
    both = combined([Delta.none(2), one, other])
    assert both.positions.tolist() == [2, 3, 5]
    assert both.vectors.tolist() == [[1.0, 0.0], [4.0, 4.0], [1.0, 1.0]]
    assert combined([Delta.none(2)]).empty


@pytest.mark.parametrize("norm", list(InputNorm))
def test_lowering_keeps_the_saes_error(small_model: LoadedModel, tmp_path: Path, norm: InputNorm) -> None:
    """What the changed code leaves of the changed activation is what the code left before, whatever normalises it."""
    station = station_at(STREAM, tmp_path)
    station = replace(station, saes=(replace(station.saes[0], input_norm=norm),))
    engine = Interventions(small_model, station, downstream=None, batch_tokens=60)
    (held,) = engine.hold(prompts_for(small_model)[:1])
    fired = held.fired
    latent = int(fired.rows.latent[fired.rows.activation.argmax()])
    ceiling = held.maximum(latent) / 2
    delta = held.lowering(latent, ceiling)
    changed = fired.source.clone()
    where = {int(place): row for row, place in enumerate(fired.kept)}
    for place, vector in zip(delta.positions, delta.vectors, strict=True):
        changed[where[int(place)]] += vector
    own = fired.rows.latent == latent
    lowered = torch.where(own, fired.rows.activation.clamp(max=ceiling), fired.rows.activation)
    code = SparseRows(fired.rows.token, fired.rows.latent, lowered)
    error = fired.source - fired.sae.decode(fired.rows, fired.source)
    torch.testing.assert_close(changed - fired.sae.decode(code, fired.source), error, atol=1e-5, rtol=1e-5)
    assert len(delta.positions) == int((own & (fired.rows.activation > ceiling)).sum()) > 0
    removed = held.removing_error()
    torch.testing.assert_close(removed.vectors, -error)


def test_a_sham_has_the_norms_of_what_it_stands_for(small_model: LoadedModel, tmp_path: Path) -> None:
    """The same positions and norms, one direction; a direction of another width is refused."""
    engine = engine_at(small_model, STREAM, tmp_path)
    (held,) = engine.hold(prompts_for(small_model)[:1])
    like = held.lowering(int(held.fired.rows.latent[0]), 0.0)
    sham = held.pushed(torch.arange(1.0, 33.0), like)
    assert torch.equal(sham.positions, like.positions)
    torch.testing.assert_close(sham.vectors.norm(dim=1), like.vectors.norm(dim=1))
    cosines = torch.nn.functional.cosine_similarity(sham.vectors, torch.arange(1.0, 33.0)[None])
    torch.testing.assert_close(cosines, torch.ones(len(cosines)))
    with pytest.raises(ShapeMismatch, match="direction"):
        held.pushed(torch.ones(31), like)


@pytest.mark.parametrize("kind", [kind for kind in SiteKind if kind is not SiteKind.MLP_ACT])
def test_the_gradient_is_that_of_finite_differences(tmp_path: Path, kind: SiteKind) -> None:
    """Untouched and changed, at every kind of site, in float64: llama's norms would round."""
    model = load_model(ModelConfig(source=str(save_model(tmp_path / "model", "gpt2"))))
    model.model.double()
    engine = engine_at(model, Site(kind, 1), tmp_path)
    (held,) = engine.hold(prompts_for(model)[:1])
    kept, generator = held.fired.kept, torch.Generator().manual_seed(2)
    base = [Delta.none(32), held.lowering(int(held.fired.rows.latent[0]), 0.0)]
    gradient = engine.gradient(held, base)
    assert gradient.shape == (2, held.positions, 32)
    others = [n for n in range(held.positions) if n not in kept.tolist()]
    assert not bool(gradient[:, others].any())
    step = 2.0**-10
    for number, at in enumerate(base):
        way = Delta(kept, torch.randn(len(kept), 32, generator=generator) * 0.1)
        ahead = combined([at, Delta(kept, way.vectors * step)])
        back = combined([at, Delta(kept, -way.vectors * step)])
        found = engine.run(held, [ahead, back]).outcome
        expected = (found[0] - found[1]) / (2 * step)
        assert float((gradient[number, kept] * way.vectors).sum()) == pytest.approx(expected, rel=5e-3, abs=1e-5)


def test_out_of_memory_means_half_a_batch(small_model: LoadedModel, tmp_path: Path) -> None:
    """The same answers in the same order, and it is said."""
    said: list[str] = []
    later = station_at(Site(SiteKind.RESID_POST, 2), tmp_path)
    station = station_at(STREAM, tmp_path)
    engine = Interventions(small_model, station, downstream=later, batch_tokens=10_000, say=said.append)
    (held,) = engine.hold(prompts_for(small_model)[:1])
    deltas = some_deltas(held)
    expected = engine.run(held, deltas)
    gradient = engine.gradient(held, deltas)

    def refuse(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].shape[0] > 2:
            raise torch.OutOfMemoryError

    hook = small_model.layers[3].register_forward_pre_hook(refuse)
    try:
        found, halved = engine.run(held, deltas), engine.gradient(held, deltas)
    finally:
        hook.remove()
    assert said
    assert_equal(found, expected)
    torch.testing.assert_close(halved, gradient, atol=1e-6, rtol=1e-4)


def test_what_was_forgotten_is_computed_again(
    small_model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and values of a prompt that no longer fit are found again from what entered the upper layers."""
    monkeypatch.setattr("audit.capture.interventions._KEPT_BYTES", 0)
    engine = engine_at(small_model, STREAM, tmp_path, later=Site(SiteKind.RESID_POST, 2))
    held = engine.hold(prompts_for(small_model))
    assert len(engine._clean) == 1
    deltas = some_deltas(held[0])
    later = station_at(Site(SiteKind.RESID_POST, 2), tmp_path / "again")
    assert_equal(engine.run(held[0], deltas), plainly(small_model, held[0], deltas, STREAM, later))


def test_work_is_counted_in_whole_passes(small_model: LoadedModel, tmp_path: Path) -> None:
    """One prompt held is one pass; a change costs its share of layers and positions, a gradient three times that."""
    engine = engine_at(small_model, STREAM, tmp_path)
    assert engine.spent == 0.0
    (held,) = engine.hold(prompts_for(small_model)[:1])
    assert engine.spent == pytest.approx(1.0)
    half, place = 2 / 4, int(held.fired.kept[5])
    engine.run(held, [Delta(torch.tensor([place]), torch.ones(1, 32))] * 2)
    own = 2 * half * (held.positions - place) / held.positions
    assert engine.spent == pytest.approx(1.0 + own)
    engine.gradient(held, [Delta.none(32)])
    own += 3 * half * (held.positions - int(held.fired.kept[0])) / held.positions
    assert engine.spent == pytest.approx(1.0 + own)


def test_outliers_are_not_kept(small_model: LoadedModel, tmp_path: Path) -> None:
    """A position above the limit fires nothing and is not changed; with all of them above there is nothing to do."""
    (held,) = engine_at(small_model, STREAM, tmp_path).hold(prompts_for(small_model)[:1])
    norms = held.fired.source.norm(dim=1)
    limit = float(norms.median())
    (less,) = engine_at(small_model, STREAM, tmp_path / "b", limit=limit).hold(prompts_for(small_model)[:1])
    assert less.fired.kept.tolist() == held.fired.kept[norms <= limit].tolist()
    with pytest.raises(EvidenceError, match="outlier"):
        engine_at(small_model, STREAM, tmp_path / "c", limit=0.0).hold(prompts_for(small_model)[:1])


def test_places_where_nothing_can_be_measured_are_refused(small_model: LoadedModel, tmp_path: Path) -> None:
    """A site without later layers, a second SAE before the first, at the same place, a transcoder, two SAEs."""
    for kind in (SiteKind.RESID_POST, SiteKind.MLP_OUT):
        with pytest.raises(ConfigError, match="a site without later layers"):
            engine_at(small_model, Site(kind, 3), tmp_path / f"last-{kind}")
    engine_at(small_model, Site(SiteKind.RESID_PRE, 3), tmp_path / "entry")
    for later in (Site(SiteKind.RESID_POST, 0), STREAM, Site(SiteKind.RESID_PRE, 2), Site(SiteKind.MLP_OUT, 1)):
        with pytest.raises(ConfigError, match="a second SAE before the first"):
            engine_at(small_model, STREAM, tmp_path / f"second-{later}", later=later)
    station = station_at(STREAM, tmp_path)
    (sae,) = station.saes
    transcoder = replace(station, targets={sae.record.name: Site(SiteKind.MLP_OUT, 1)})
    for wrong in (transcoder, replace(station, saes=(sae, sae))):
        with pytest.raises(SaeInvalid):
            Interventions(small_model, wrong, downstream=None, batch_tokens=60)


def test_what_prompts_share_is_not_changed(small_model: LoadedModel, tmp_path: Path) -> None:
    """A change of the template in front, or behind the prompt's end, is refused."""
    engine = engine_at(small_model, STREAM, tmp_path)
    (held,) = engine.hold(prompts_for(small_model)[:1])
    assert held.prefix.length > 0
    for place in (0, held.positions):
        with pytest.raises(ShapeMismatch, match="positions from"):
            engine.run(held, [Delta(torch.tensor([place]), torch.ones(1, 32))])


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """NaN at the site, in the answer and in the gradient."""
    model = load_model(ModelConfig(source=str(save_model(tmp_path / "model", "llama"))))
    engine = engine_at(model, STREAM, tmp_path)
    (held,) = engine.hold(prompts_for(model)[:1])
    wrong = Delta(held.fired.kept[:1], torch.full((1, 32), float("nan")))
    with pytest.raises(EvidenceError, match="answer"):
        engine.run(held, [wrong])
    with pytest.raises(EvidenceError):
        engine.gradient(held, [wrong])
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(EvidenceError):
        engine_at(model, STREAM, tmp_path / "b").hold(prompts_for(model)[:1])
