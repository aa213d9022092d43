"""A two-layer network built by hand, whose answer is a known function of two features: interactions are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.capture.encoder import Threshold
from audit.capture.interventions import Delta, Held, Interventions, combined
from audit.capture.model import LoadedModel
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.capture.runner import Station
from audit.capture.sae import Sae
from audit.capture.sae_sources import load_sae
from audit.capture.sites import Site, SiteKind
from audit.records import ModelRecord
from tests.capture.test_runner import prompt
from tests.capture.test_sae import write_sae

WIDTH, ANSWER = 4, 2
FILLER, FIRST, SECOND = 0, 1, 2
YES, NO = 3, 4
GAIN = 3.0
Gate = Callable[[Tensor, Tensor], Tensor]

GATES: dict[str, Gate] = {
    "additive": lambda a, b: a + b,
    "or": lambda a, b: torch.relu(a + b) - torch.relu(a + b - 1),
    "and": lambda a, b: torch.relu(a + b - 1),
    "xor": lambda a, b: torch.relu(a + b) - 2 * torch.relu(a + b - 1),
    "product": lambda a, b: a * b,
}


class Neurons(nn.Module):
    """Writes a function of two coordinates into a third, position by position."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (..., width), 0 but for the answer."""
        answer = self.gate(hidden[..., 0], hidden[..., 1])
        return nn.functional.one_hot(torch.tensor(ANSWER), WIDTH) * answer[..., None]


class Layer(nn.Module):
    """Adds what its neurons make of the sum of all positions so far, or nothing where it has none."""

    def __init__(self, gate: Gate | None) -> None:
        super().__init__()
        self.mlp = None if gate is None else Neurons(gate)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the residual stream behind the layer, (batch, position, width)."""
        return hidden if self.mlp is None else hidden + self.mlp(hidden.cumsum(1))


class TwoLayers(nn.Module):
    """Tokens put features into the stream, the second layer combines them, the answer is read from one coordinate."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        embedding = torch.zeros(5, WIDTH)
        embedding[FIRST, 0] = embedding[SECOND, 1] = 1.0
        # A word of its own that is about neither feature.
        embedding[FILLER, 3] = 1.0
        self.embed = nn.Embedding.from_pretrained(embedding)
        self.layers = nn.ModuleList([Layer(None), Layer(gate)])
        text = SimpleNamespace(layer_types=["sum", "sum"])
        self.config: Any = SimpleNamespace(get_text_config=lambda **_: text)
        unembedding = torch.zeros(5, WIDTH)
        unembedding[YES, ANSWER] = GAIN
        self.register_buffer("unembedding", unembedding)

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        """Return logits, (batch, position, 5)."""
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return SimpleNamespace(logits=hidden @ self.unembedding.T)


def identity_sae(folder: Path, site: Site) -> Sae:
    """Return an SAE whose latents are the coordinates of the stream."""
    random = load_sae(str(write_sae(folder, site="resid_post.0")))
    one = torch.eye(WIDTH)
    record = replace(random.record, site=str(site), target=str(site), latents=WIDTH, width=WIDTH, k=None)
    zeros = torch.zeros(WIDTH)
    return Sae(w_enc=one, b_enc=zeros, w_dec=one, b_dec=zeros, rule=Threshold(zeros), record=record)


def station(folder: Path, site: Site) -> Station:
    """Return the identity SAE at a site."""
    return Station(site, (identity_sae(folder / str(site), site),), 1e9)


def built(gate: Gate, folder: Path, ids: tuple[int, ...]) -> tuple[Interventions, Held]:
    """Return the engine on the first layer's output and a prompt of these tokens."""
    model = TwoLayers(gate)
    record = ModelRecord("two layers", "built", "TwoLayers", "none", 0, 2, WIDTH, "fp32", chat_template=False)
    loaded = LoadedModel(model=model, tokenizer=None, layers=model.layers, record=record)
    engine = Interventions(
        loaded,
        station(folder, Site(SiteKind.RESID_POST, 0)),
        downstream=station(folder, Site(SiteKind.RESID_POST, 1)),
        batch_tokens=16,
    )
    content = (False, *(True,) * (len(ids) - 1))
    asked = TokenisedPrompt(prompt(0, "built"), ids, tuple(map(str, ids)), content)
    (held,) = engine.hold([(asked, OutcomeTokens(target=YES, foil=NO))])
    return engine, held


def lowered(held: Held) -> list[Delta]:
    """Return the first feature off, the second off, both off."""
    first, second = held.lowering(0, 0.0), held.lowering(1, 0.0)
    return [first, second, combined([first, second])]


@pytest.mark.parametrize(("gate", "dividend"), [("additive", 0.0), ("or", -1.0), ("and", 1.0), ("xor", -2.0)])
def test_the_interaction_is_the_harsanyi_dividend(tmp_path: Path, gate: str, dividend: float) -> None:
    """I = y11 - y10 - y01 + y00 is that of the gate, to the last bit; the gain of the answer multiplies it."""
    engine, held = built(GATES[gate], tmp_path, (FILLER, FIRST, FILLER, SECOND, FILLER))
    without_first, without_second, without_both = engine.run(held, lowered(held)).outcome
    table = GATES[gate](torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])) * GAIN
    assert [held.outcome, without_first, without_second, without_both] == table.tolist()
    assert held.outcome - without_second - without_first + without_both == GAIN * dividend


def test_several_occurrences_are_lowered_together(tmp_path: Path) -> None:
    """Two of one and three of the other multiply to six; down to a ceiling of a half it is one and a half of one."""
    engine, held = built(GATES["product"], tmp_path, (FILLER, FIRST, FIRST, SECOND, SECOND, SECOND))
    assert held.outcome == 6 * GAIN
    assert engine.run(held, [held.lowering(0, 0.5), held.lowering(1, 0.0)]).outcome.tolist() == [3 * GAIN, 0.0]
    assert held.maximum(0) == 1.0
    assert held.maximum(2) == 0.0


def test_the_words_of_a_question_are_left_as_they_are(tmp_path: Path) -> None:
    """Of two occurrences one belongs to the question: the other alone is lowered, and shams have its positions."""
    engine, held = built(GATES["product"], tmp_path, (FILLER, FIRST, SECOND, FIRST, FILLER))
    asked = replace(held, prompt=replace(held.prompt, told=(False, True, True, False, False)))
    assert held.outcome == 2 * GAIN
    assert asked.lowering(0, 0.0).positions.tolist() == [1]
    assert engine.run(asked, [asked.lowering(0, 0.0)]).outcome.tolist() == [GAIN]
    direction = torch.nn.functional.normalize(torch.ones(WIDTH), dim=0)
    assert asked.pushed(direction, asked.lowering(0, 0.0)).positions.tolist() == [1]


def test_the_screen_has_the_sign_of_the_exact_interaction(tmp_path: Path) -> None:
    """For a product the first-order estimates are exact: of singles, and of the pair."""
    engine, held = built(GATES["product"], tmp_path, (FILLER, FIRST, FIRST, SECOND, SECOND, SECOND))
    first, second, both = lowered(held)
    clean, changed = engine.gradient(held, [Delta.none(WIDTH), first])

    def along(delta: Delta, gradient: Tensor) -> float:
        return float((delta.vectors * gradient[delta.positions]).sum())

    exact = engine.run(held, [first, second, both]).outcome
    assert along(first, clean) == exact[0] - held.outcome == -6 * GAIN
    assert along(second, changed - clean) == held.outcome - exact[0] - exact[1] + exact[2] == 6 * GAIN


def test_later_features_fall_by_what_they_owe(tmp_path: Path) -> None:
    """The later SAE reads the answer's coordinate: its largest value under each change; others stay as they are."""
    engine, held = built(GATES["or"], tmp_path, (FILLER, FIRST, FILLER, SECOND, FILLER))
    assert held.downstream is not None
    assert held.downstream.tolist() == [1.0, 1.0, 1.0, 1.0]
    found = engine.run(held, lowered(held)).downstream
    assert found is not None
    assert found.tolist() == [[0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]


def test_the_upper_layer_alone_is_run(tmp_path: Path) -> None:
    """The built model is one that can be resumed, and one whose past is not kept."""
    engine, _ = built(GATES["and"], tmp_path, (FILLER, FIRST, SECOND))
    assert engine._upper is not None
    assert (engine._upper.entry, engine._upper.resumes, engine._upper.keeps_past) == (1, True, False)


def test_the_answer_diverges_as_the_distributions_do(tmp_path: Path) -> None:
    """KL(untouched || changed) of five logits, one of which falls from the gain to 0."""
    engine, held = built(GATES["and"], tmp_path, (FILLER, FIRST, SECOND))
    before = torch.log_softmax(torch.tensor([0.0, 0.0, 0.0, GAIN, 0.0], dtype=torch.float64), 0)
    after = torch.full((5,), 0.2, dtype=torch.float64).log()
    expected = float((before.exp() * (before - after)).sum())
    assert engine.run(held, [held.lowering(0, 0.0)]).kl[0] == pytest.approx(expected, abs=1e-12)
