"""Packs: the activations of prompts run one by one, with what they share computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.capture.batches import NO_PREFIX, Batch, make_batches, share_prefix
from audit.capture.model import LoadedModel, load_model
from audit.capture.packs import Pack, can_pack, make_packs
from audit.capture.sites import Site, SiteKind, read_site
from audit.config import ModelConfig
from tests.capture.conftest import save_model

SITE = Site(SiteKind.RESID_POST, 2)
# Attention slides in these configurations: the mask differs from layer to layer.
UNPACKED = {"gemma2", "gemma3_text", "mistral"}


@dataclass(frozen=True, slots=True)
class Words:
    """A sequence of tokens; the first few are template."""

    id: int
    ids: tuple[int, ...]
    template: int = 2

    @property
    def content(self) -> tuple[bool, ...]:
        """Return which positions count."""
        return tuple(place >= self.template for place in range(len(self.ids)))

    @property
    def label(self) -> str:
        """Return a name."""
        return f"words {self.id}"


PROMPTS = [
    Words(n, (5, 6, *ids))
    for n, ids in enumerate(
        [
            (10, 11, 12, 13, 14, 15),
            (10, 11, 12, 99, 14, 15),
            (10, 11, 12, 99, 14, 16, 17),
            (10, 11),
            (40, 41, 42),
            (40, 41, 42),
            (50,),
        ]
    )
]


def alone(model: LoadedModel, prompt: Words) -> Tensor:
    """Return the residual of a prompt's own words, run alone and whole."""
    (batch,) = make_batches([prompt], batch_tokens=1)
    return batch.rows(read_site(model.model, model.layers, SITE, batch.inputs(model)))


def check(model: LoadedModel, packs: Sequence[Pack[Words]]) -> None:
    """Compare every word of every prompt with the prompt run alone."""
    for pack in packs:
        rows = pack.rows(read_site(model.model, model.layers, SITE, pack.inputs(model)))[pack.source]
        for place, prompt in enumerate(pack.prompts):
            mine = pack.owner[:, 0] == place
            assert pack.owner[mine, 1].tolist() == [n for n, own in enumerate(prompt.content) if own]
            torch.testing.assert_close(rows[mine], alone(model, prompt), atol=2e-5, rtol=1e-4)


def test_packed_words_have_the_activations_of_each_prompt_alone(any_wiring: LoadedModel) -> None:
    """Behind a cached prefix or not, whatever a model's positions are made of; models that cannot are noticed."""
    longer = [Words(p.id, (7, 8, 9, *p.ids * 2), template=5) for p in PROMPTS]
    kind = any_wiring.record.name.split(",")[0]
    prefix = share_prefix(any_wiring, longer, upto=SITE)
    for shared in (NO_PREFIX, prefix):
        assert can_pack(any_wiring, longer, upto=SITE, prefix=shared, pack_tokens=64) is (kind not in UNPACKED)
    if kind not in UNPACKED:
        assert prefix.length > 0
        check(any_wiring, make_packs(longer, pack_tokens=64))
        check(any_wiring, make_packs(longer, pack_tokens=9, prefix=prefix))


def test_position_biases_from_the_mask_are_noticed(tmp_path: Path) -> None:
    """Bloom's attention bias counts the mask's columns: its prompts run in padded batches."""
    model = load_model(ModelConfig(source=str(save_model(tmp_path / "bloom", "bloom"))))
    assert not can_pack(model, PROMPTS, upto=SITE, prefix=NO_PREFIX, pack_tokens=64)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        # Local attention counts places in the row, not positions.
        (
            "gpt_neo",
            {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 32},
        ),
        # The bias counts columns of the row, and position numbers are swallowed.
        ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 4, "max_seq_len": 256, "expansion_ratio": 2}),
    ],
)
def test_models_that_count_places_in_the_row_are_noticed(tmp_path: Path, kind: str, changes: dict[str, object]) -> None:
    """Prompts that part in the middle: the later ones lie far behind what they begin with."""
    model = load_model(ModelConfig(source=str(save_model(tmp_path / kind, kind, **changes))))
    with torch.no_grad():
        for layer in model.layers:
            for parameter in layer.parameters():
                parameter.mul_(4)
    prompts = [Words(n, (*range(10, 40), *range(50 + n, 80 + n))) for n in range(8)]
    packs = make_packs(prompts, pack_tokens=128)
    off = 0.0
    for pack in packs:
        rows = pack.rows(read_site(model.model, model.layers, SITE, pack.inputs(model)))[pack.source]
        for place, prompt in enumerate(pack.prompts):
            exact = alone(model, prompt)
            off = max(off, float(((rows[pack.owner[:, 0] == place] - exact).norm(dim=1) / exact.norm(dim=1)).max()))
    assert off > 0.01
    assert not can_pack(model, prompts, upto=SITE, prefix=NO_PREFIX, pack_tokens=128)


def test_a_pack_beyond_the_context_is_not_made(tmp_path: Path) -> None:
    """Tables over the row may be as long as the context, not longer."""
    model = load_model(ModelConfig(source=str(save_model(tmp_path / "gpt2", "gpt2", n_positions=40))))
    prompts = [Words(n, tuple(range(10 + n, 40 + n))) for n in range(4)]
    assert can_pack(model, prompts, upto=SITE, prefix=NO_PREFIX, pack_tokens=32)
    assert not can_pack(model, prompts, upto=SITE, prefix=NO_PREFIX, pack_tokens=128)


def test_what_prompts_begin_with_is_run_once() -> None:
    """Seven prompts of 41 tokens have 18 distinct ones: the tree of their beginnings."""
    (pack,) = make_packs(PROMPTS, pack_tokens=64)
    distinct = {p.ids[: n + 1] for p in PROMPTS for n in range(len(p.ids))}
    assert len(pack.ids) == len(distinct)
    assert len(pack.ids) < sum(len(p.ids) for p in PROMPTS)
    assert len(pack.read) == len({ids for ids in distinct if len(ids) > 2})


@given(
    texts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=12),
    size=st.integers(1, 20),
    seed=st.integers(0, 3),
)
def test_every_word_sees_its_own_prompt_and_nothing_else(texts: list[list[int]], size: int, seed: int) -> None:
    """Following what a node sees gives back its prompt's tokens in order; grouping does not depend on the order."""
    prompts = [Words(n, (5, 6, *ids)) for n, ids in enumerate(texts)]
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed)).tolist()
    packs = make_packs([prompts[n] for n in order], pack_tokens=size)
    assert [[p.id for p in pack.prompts] for pack in packs] == [
        [p.id for p in pack.prompts] for pack in make_packs(prompts, pack_tokens=size)
    ]
    assert sorted(p.id for pack in packs for p in pack.prompts) == list(range(len(prompts)))
    for pack in packs:
        assert len(pack.prompts) == 1 or len(pack.ids) <= size
        for (row, position), source in zip(pack.owner.tolist(), pack.source.tolist(), strict=True):
            node = int(pack.read[source])
            seen = pack.sees[node].nonzero()[:, 0]
            assert int(pack.positions[node]) == position
            assert pack.ids[seen].tolist() == list(pack.prompts[row].ids[: position + 1])


def test_a_wrong_mask_is_noticed(small_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that ignored the mask would be found out: each word would see the other prompts."""
    honest = Pack.inputs

    def careless(self: Pack[Words], model: LoadedModel) -> dict[str, object]:
        given = honest(self, model)
        count = len(self.ids)
        causal = torch.full((count, count), torch.finfo(torch.float32).min).triu(1)
        return given | {"attention_mask": causal[None, None]}

    assert can_pack(small_model, PROMPTS, upto=SITE, prefix=NO_PREFIX, pack_tokens=64)
    monkeypatch.setattr(Pack, "inputs", careless)
    assert not can_pack(small_model, PROMPTS, upto=SITE, prefix=NO_PREFIX, pack_tokens=64)


def test_halves_hold_every_prompt_once(small_model: LoadedModel) -> None:
    """A pack and a batch fall into two that give the same rows."""
    (pack,) = make_packs(PROMPTS, pack_tokens=64)
    check(small_model, pack.halves())
    assert [p.id for half in pack.halves() for p in half.prompts] == [p.id for p in pack.prompts]
    (batch,) = make_batches(PROMPTS, batch_tokens=1000)
    halves: tuple[Batch[Words], ...] = batch.halves()
    assert [p.id for half in halves for p in half.prompts] == [p.id for p in batch.prompts]
    for half in halves:
        rows = half.rows(read_site(small_model.model, small_model.layers, SITE, half.inputs(small_model)))
        for place, prompt in enumerate(half.prompts):
            torch.testing.assert_close(
                rows[half.owner[:, 0] == place], alone(small_model, prompt), atol=2e-5, rtol=1e-4
            )
