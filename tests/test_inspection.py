"""What a latent does on a text, against a plain reading of every sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from audit.bench import Bench, open_bench
from audit.capture.model import LoadedModel
from audit.config import ModelConfig
from audit.errors import CorpusError, UsageError
from audit.inspection import LatentView, inspect_latent
from audit.progress import Silent
from audit.training.sequences import TextSequence
from tests.capture.test_sae import LATENTS
from tests.test_certification import (
    DEAD,
    DENSE,
    REGISTERS,
    Reading,
    read_directly,
    save_lively_model,
    save_sae,
    save_text,
    sequences_of,
    through,
)
from tests.training.conftest import write_jsonl

TOKENS = 3000
# Far above every norm of the small model, so that nothing is left out: the card of the SAE asks for the same.
FACTOR = 10.0
LEVELS = ("strongest", "second quarter", "third quarter", "weakest quarter")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a small SAE with its model and 60 documents."""
    folder = tmp_path_factory.mktemp("bench")
    sae = save_sae(folder / "sae", harvest={"outlier_norm_factor": FACTOR})
    model = save_lively_model(folder / "model")
    return open_bench(
        str(sae), ModelConfig(str(model)), save_text(folder / "corpus.jsonl", 60), all_documents=True, progress=Silent()
    )


@pytest.fixture(scope="module")
def readings(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[Reading]:
    """Return each sequence read alone."""
    text = save_text(tmp_path_factory.mktemp("text") / "corpus.jsonl", 60)
    return read_directly(bench.model, bench.sae, sequences_of(bench.model, text), FACTOR)


def look(bench: Bench, latent: int, *, contexts: int = 2, tokens: int = TOKENS) -> LatentView:
    """Inspect a latent."""
    return inspect_latent(bench, latent, tokens=tokens, contexts=contexts, chat_share=0.4, progress=Silent())


def firings(bench: Bench, readings: list[Reading], latent: int) -> list[tuple[float, TextSequence, int]]:
    """Return activation, sequence and position of every place where a latent is among the top k and above 0."""
    found = []
    for reading in readings:
        positions = [n for n, own in enumerate(reading.sequence.content) if own]
        pre = (reading.residual - bench.sae.b_dec) @ bench.sae.w_enc[latent] + bench.sae.b_enc[latent]
        fires = through(bench.sae, reading.residual)[1][:, latent]
        found += [(float(pre[n]), reading.sequence, positions[n]) for n in fires.nonzero()[:, 0].tolist()]
    return found


def window(bench: Bench, sequence: TextSequence, position: int) -> tuple[str, ...]:
    """Return the tokens around a position: 12 before it, itself, 6 after it."""
    ids = sequence.ids[max(0, position - 12) : position + 7]
    return tuple(bench.model.tokenizer.decode([token]) for token in ids)


@pytest.fixture(scope="module")
def latent(readings: list[Reading]) -> int:
    """Return a latent that fires at times, in many documents: the busiest after the dense one."""
    counts = torch.cat([r.active for r in readings]).sum(0)
    counts[DENSE] = 0
    return int(counts.argmax())


def test_density_and_quantiles_equal_a_plain_reading(bench: Bench, readings: list[Reading], latent: int) -> None:
    """Over all content tokens and by register; the last quantile is the largest activation."""
    for number in (latent, DENSE):
        view = look(bench, number)
        places = firings(bench, readings, number)
        values = [value for value, _, _ in places]
        assert len(values) > 50
        assert (view.sae, view.latent) == ("small", number)
        assert view.tokens == sum(len(r.residual) for r in readings) == sum(sum(r.sequence.content) for r in readings)
        assert view.density == pytest.approx(len(values) / view.tokens, rel=1e-12)
        assert view.quantiles == pytest.approx(np.quantile(values, (0.25, 0.5, 0.75, 1)), rel=1e-4)
        assert set(view.registers) == set(REGISTERS)
        for register, share in view.registers.items():
            tokens = sum(len(r.residual) for r in readings if r.sequence.register == register)
            assert share == pytest.approx(sum(s.register == register for _, s, _ in places) / tokens, rel=1e-12)


def test_the_strongest_context_is_the_place_of_the_largest_activation(
    bench: Bench, readings: list[Reading], latent: int
) -> None:
    """With 12 tokens before and 6 after, each with its own activation, 0 where the latent is silent."""
    places = firings(bench, readings, latent)
    peak, sequence, position = max(places, key=lambda place: place[0])
    shown = look(bench, latent).contexts[0]
    assert (shown.level, shown.register, shown.chat) == ("strongest", sequence.register, sequence.chat)
    assert shown.peak == pytest.approx(peak, rel=1e-4)
    around = range(max(0, position - 12), min(len(sequence.ids), position + 7))
    own = {at: value for value, s, at in places if s.id == sequence.id}
    assert tuple(t.text for t in shown.tokens) == window(bench, sequence, position)
    assert [t.activation for t in shown.tokens] == pytest.approx([own.get(at, 0.0) for at in around], rel=1e-4)
    assert max(t.activation for t in shown.tokens) == shown.peak


def test_the_strongest_contexts_are_the_best_of_different_documents(
    bench: Bench, readings: list[Reading], latent: int
) -> None:
    """Each document stands for itself once; among documents the order is that of their peaks."""
    places = firings(bench, readings, latent)
    best: dict[str, float] = {}
    for value, sequence, _ in places:
        best[sequence.document] = max(value, best.get(sequence.document, 0.0))
    wanted = sorted(best.values(), reverse=True)[:3]
    shown = [c.peak for c in look(bench, latent, contexts=3).contexts if c.level == "strongest"]
    assert shown == pytest.approx(wanted, rel=1e-4)


def test_no_document_is_shown_twice(bench: Bench, readings: list[Reading], latent: int) -> None:
    """However many places are asked for: every context is a place of its own document."""
    shown = look(bench, latent, contexts=50).contexts
    places = firings(bench, readings, latent)
    documents = []
    for context in shown:
        words = tuple(t.text for t in context.tokens)
        near = {
            s.document
            for value, s, at in places
            if value == pytest.approx(context.peak, rel=1e-4) and words == window(bench, s, at)
        }
        assert len(near) == 1
        documents += near
    assert len(set(documents)) == len(documents)
    assert 4 < len(documents) <= len({s.document for _, s, _ in places})


def rare(bench: Bench, readings: list[Reading]) -> int:
    """Return the latent with the fewest firings that fires in five documents or more."""
    counts = {}
    for number in range(LATENTS):
        places = firings(bench, readings, number)
        if len({s.document for _, s, _ in places}) >= 5:
            counts[len(places), number] = number
    return counts[min(counts)]


@pytest.mark.parametrize("contexts", [1, 2, 50])
def test_each_level_stands_for_its_quarter_of_the_activations(
    bench: Bench, readings: list[Reading], latent: int, contexts: int
) -> None:
    """Where a quarter's documents are used up it shows fewer places, not weaker ones under its name."""
    for number in (latent, DENSE, rare(bench, readings)):
        ranked = sorted((value for value, _, _ in firings(bench, readings, number)), reverse=True)
        limits = [ranked[int(n * len(ranked) / 4)] for n in range(4)] + [0.0]
        shown = look(bench, number, contexts=contexts).contexts
        # The strongest are the best of each document, however many are asked for.
        for context in shown:
            level = LEVELS.index(context.level)
            assert context.peak <= limits[level] * (1 + 1e-4)
            assert level == 0 or context.peak >= limits[level + 1] * (1 - 1e-4), (number, context.level)
        assert all(sum(c.level == level for c in shown) <= contexts for level in LEVELS)
        assert [c.level for c in shown] == sorted((c.level for c in shown), key=LEVELS.index)


def test_a_latent_that_never_fires_says_so(bench: Bench) -> None:
    """Density 0 in every register, no quantiles, no contexts; its direction still promotes tokens."""
    view = look(bench, DEAD[3])
    assert (view.density, view.quantiles, view.contexts) == (0, None, ())
    assert view.registers == dict.fromkeys(REGISTERS, 0.0)
    assert len(view.promoted) == 12


def test_promoted_tokens_are_those_that_the_direction_raises_most(bench: Bench, latent: int) -> None:
    """Through the scale of the final norm and the unembedding."""
    model: LoadedModel = bench.model
    direction = bench.sae.w_dec[latent] * model.model.model.norm.weight
    scores = model.model.lm_head.weight @ direction
    best = sorted(range(len(scores)), key=lambda token: -float(scores[token]))[:12]
    assert view_of(bench, latent).promoted == tuple(model.tokenizer.decode([token]) for token in best)


def view_of(bench: Bench, latent: int) -> LatentView:
    """Return a short look at a latent."""
    return look(bench, latent, tokens=300)


@pytest.mark.parametrize("number", [-1, LATENTS, 10**9])
def test_a_latent_that_the_sae_lacks_is_refused(bench: Bench, number: int) -> None:
    """The allowed range is told."""
    with pytest.raises(UsageError, match=f"latent {number}") as caught:
        look(bench, number)
    assert caught.value.expected == f"0 to {LATENTS - 1}"


@pytest.mark.parametrize("number", [0, LATENTS - 1])
def test_the_ends_of_the_range_are_latents(bench: Bench, number: int) -> None:
    """First and last can be looked at."""
    assert view_of(bench, number).latent == number


def test_fewer_tokens_than_asked_for_are_counted(bench: Bench) -> None:
    """A look takes what there is and says how much that was."""
    everything = look(bench, DENSE, tokens=10**6)
    assert TOKENS < everything.tokens < 10**6
    assert TOKENS > look(bench, DENSE, tokens=1000).tokens >= 1000


def test_a_text_too_short_for_any_sequence_is_told(tmp_path: Path) -> None:
    """Documents of fewer than 24 tokens give no sequence; that is an error of the text, not a crash."""
    text = write_jsonl(tmp_path / "short.jsonl", [{"text": "the nurse"}, {"text": "the dose"}])
    short = open_bench(
        str(save_sae(tmp_path / "sae")),
        ModelConfig(str(save_lively_model(tmp_path / "model"))),
        text,
        all_documents=True,
        progress=Silent(),
    )
    with pytest.raises(CorpusError, match=r"short\.jsonl"):
        look(short, DENSE)
