"""Activations on disk: the rows of a direct forward pass, and refused when they would be wrong."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from audit.capture.model import LoadedModel, load_model
from audit.capture.sites import Site, SiteKind, read_site
from audit.config import ModelConfig
from audit.errors import CorpusError, EvidenceError, ExitCode, OutputError, TooLarge
from audit.training.corpus import Corpus
from audit.training.harvest import Activations, HarvestRecipe
from audit.training.sequences import SequenceMaker, TextSequence
from tests.capture.conftest import SMALL, save_model
from tests.training.conftest import LIMITED, PART_TOKENS, RECIPE, SITE, files, take

pytestmark = pytest.mark.usefixtures("small_parts")

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - the shape of shutil.disk_usage


def sequences_of(model: LoadedModel, corpus: Corpus, recipe: HarvestRecipe, *, held_out: bool) -> list[TextSequence]:
    """Return the first sequences that hold the wanted tokens."""
    maker = SequenceMaker(
        model.tokenizer, chat_share=recipe.chat_share, seed=recipe.seed, register_limits=recipe.register_limits
    )
    taken: list[TextSequence] = []
    wanted = recipe.held_out_tokens if held_out else recipe.tokens
    for sequence in maker.make(corpus.split(held_out=held_out)):
        if sum(sum(s.content) for s in taken) >= wanted:
            break
        taken.append(sequence)
    return taken


def length(sequence: TextSequence) -> int:
    """Return how many tokens run: what follows the last own word changes nothing before it."""
    return len(sequence.ids) - sequence.content[::-1].index(True)


def direct_rows(model: LoadedModel, sequences: list[TextSequence]) -> tuple[Tensor, Tensor]:
    """Run each sequence alone, whole and unpadded, in the order of the harvest; return its content rows and format."""
    parts: list[list[TextSequence]] = [[]]
    for sequence in sequences:
        if sum(sum(s.content) for s in parts[-1]) >= PART_TOKENS:
            parts.append([])
        parts[-1].append(sequence)
    rows, chat = [], []
    for part in parts:
        for sequence in sorted(part, key=lambda s: (s.chat, length(s), s.id)):
            ids = torch.tensor([sequence.ids])
            residual = read_site(
                model.model, model.layers, SITE, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            )
            own = residual[0][torch.tensor(sequence.content)]
            rows.append(own)
            chat += [sequence.chat] * len(own)
    return torch.cat(rows), torch.tensor(chat)


def assert_rows_agree(found: Tensor, direct: Tensor) -> None:
    """Assert that bf16 rows are those of a float32 computation, up to a rounding that fell the other way."""
    expected = direct.bfloat16().float()
    assert found.shape == expected.shape
    assert bool(((found - expected).abs() <= expected.abs() * 2**-7 + 1e-6).all())
    assert float((found == expected).float().mean()) > 0.99


@pytest.mark.parametrize("side", ["train", "held"])
def test_rows_are_those_of_a_direct_forward_pass(model: LoadedModel, corpus: Corpus, tmp_path: Path, side: str) -> None:
    """Neither batches nor padding nor the shared prefix nor the parts change a row, and only content gives rows."""
    take(model, corpus, tmp_path)
    stored = Activations(tmp_path, side)
    direct, chat = direct_rows(model, sequences_of(model, corpus, RECIPE, held_out=side == "held"))
    assert_rows_agree(stored.read(np.arange(len(stored))), direct)
    assert torch.equal(torch.from_numpy(stored.chat), chat)
    assert set(chat.tolist()) == {False, True}


def test_a_model_without_prefix_sharing_gives_the_same(corpus: Corpus, tmp_path: Path) -> None:
    """Sliding windows, which share no prefix, change no row either."""
    windowed = load_model(ModelConfig(source=str(save_model(tmp_path / "gemma", "gemma2"))))
    small = replace(RECIPE, tokens=1500, held_out_tokens=100)
    take(windowed, corpus, tmp_path / "a", small)
    stored = Activations(tmp_path / "a", "train")
    direct, _ = direct_rows(windowed, sequences_of(windowed, corpus, small, held_out=False))
    assert_rows_agree(stored.read(np.arange(len(stored))), direct)


def test_the_record_tells_what_was_taken(model: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    """Tokens, shares and counts are those of the sequences; at least the wanted tokens, at most a window more."""
    record = take(model, corpus, tmp_path)
    sequences = sequences_of(model, corpus, RECIPE, held_out=False)
    tokens = sum(sum(s.content) for s in sequences)
    assert record.tokens == tokens == len(Activations(tmp_path, "train"))
    assert RECIPE.tokens <= tokens < RECIPE.tokens + 320
    assert record.held_out_tokens == len(Activations(tmp_path, "held"))
    assert RECIPE.held_out_tokens <= record.held_out_tokens < RECIPE.held_out_tokens + 320
    chat = sum(sum(s.content) for s in sequences if s.chat) / tokens
    assert record.chat_share == pytest.approx(chat, abs=1e-4)
    limited = sum(sum(s.content) for s in sequences if s.register == LIMITED) / tokens
    assert record.register_shares[LIMITED] == pytest.approx(limited, abs=1e-4)
    assert sum(record.register_shares.values()) == pytest.approx(1, abs=1e-3)
    assert (record.sequences, record.documents, record.outliers_excluded) == (
        len(sequences),
        len({s.document for s in sequences}),
        0,
    )


def test_outliers_are_dropped_and_counted(model: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    """Rows beyond the limit are not stored, all others are, and the record counts both sides' losses."""
    recipe = replace(RECIPE, outlier_norm_factor=1.15)
    record = take(model, corpus, tmp_path, recipe)
    lost = 0
    for side in ("train", "held"):
        direct, _ = direct_rows(model, sequences_of(model, corpus, recipe, held_out=side == "held"))
        inside = direct.norm(dim=1) <= record.outlier_limit
        stored = Activations(tmp_path, side)
        assert_rows_agree(stored.read(np.arange(len(stored))), direct[inside])
        lost += int((~inside).sum())
    assert record.outliers_excluded == lost > 100


def test_any_rows_can_be_read_across_parts(model: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    """Rows from several parts, with repeats, come in the order asked for."""
    take(model, corpus, tmp_path)
    parts = sorted(tmp_path.glob("train-*.rows.npy"))
    assert len(parts) >= 3
    whole = np.concatenate([np.load(path) for path in parts])
    wanted = np.array([0, 0, 5, len(np.load(parts[0])) - 1, len(np.load(parts[0])), len(whole) - 1, len(whole) - 1])
    bits = Activations(tmp_path, "train").read(wanted).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert (bits == whole[wanted]).all()


def test_damaged_weights_are_told(model_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    """NaN in the residual stream is an error of the evidence, and no row of it is stored."""
    broken = load_model(ModelConfig(source=str(model_folder)))
    with torch.no_grad():
        next(iter(broken.layers[1].parameters())).fill_(float("nan"))
    with pytest.raises(EvidenceError, match=str(SITE)) as caught:
        take(broken, corpus, tmp_path)
    assert caught.value.exit_code is ExitCode.EVIDENCE_INVALID
    assert not list(tmp_path.glob("*.npy"))


def test_too_little_text_names_the_tokens_found(model: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    """The error counts the tokens that the corpus gives under this recipe, in the text and in the advice."""
    found = sum(sum(s.content) for s in sequences_of(model, corpus, replace(RECIPE, tokens=10**9), held_out=False))
    with pytest.raises(CorpusError) as caught:
        take(model, corpus, tmp_path, replace(RECIPE, tokens=10**9))
    assert caught.value.expected == "1,000,000,000 tokens"
    assert caught.value.found == f"{found:,}"
    assert f"{found:,}" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_corpus_without_a_held_out_document_is_refused(model: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    """Without held-out text nothing would watch the training; a little of it is enough."""
    only = replace(corpus, documents=corpus.split(held_out=False))
    with pytest.raises(CorpusError, match="held-out"):
        take(model, only, tmp_path / "a")
    one = replace(corpus, documents=(*only.documents, corpus.split(held_out=True)[0]))
    record = take(model, one, tmp_path / "b", replace(RECIPE, held_out_tokens=10**6))
    assert 0 < record.held_out_tokens < 10**6


def test_a_full_disk_is_told_before_the_model_runs(
    model: LoadedModel, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The activations' size is known beforehand: no forward pass, no part, and an error of the environment."""
    ran: list[int] = []
    handle = model.layers[0].register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        with monkeypatch.context() as full:
            full.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1000))
            with pytest.raises(TooLarge) as caught:
                take(model, corpus, tmp_path)
        assert not ran
        take(model, corpus, tmp_path)
        assert ran
    finally:
        handle.remove()
    assert caught.value.exit_code is ExitCode.ENVIRONMENT
    assert str(tmp_path) in caught.value.expected


@pytest.mark.parametrize(
    "change", [{"tokens": 9001}, {"chat_share": 0.31}, {"register_limits": {}}, {"outlier_norm_factor": 9.0}]
)
def test_another_recipe_is_refused(
    model: LoadedModel, corpus: Corpus, tmp_path: Path, change: dict[str, object]
) -> None:
    """A folder holds one harvest; nothing in it is touched."""
    take(model, corpus, tmp_path)
    before = files(tmp_path)
    with pytest.raises(OutputError, match="another"):
        take(model, corpus, tmp_path, replace(RECIPE, **change))  # type: ignore[arg-type]
    assert files(tmp_path) == before


def test_another_site_or_corpus_is_refused(model: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    """So is the same recipe read elsewhere or from another text."""
    take(model, corpus, tmp_path)
    with pytest.raises(OutputError):
        take(model, corpus, tmp_path, site=Site(SiteKind.RESID_PRE, 2))
    with pytest.raises(OutputError):
        take(model, replace(corpus, digest="sha256:0"), tmp_path)


def test_a_folder_that_cannot_be_written_is_told(model: LoadedModel, corpus: Corpus) -> None:
    """An --activations on a wrong path is an error with a name, not a crash."""
    with pytest.raises(OutputError):
        take(model, corpus, Path("/proc/affidavit/activations"))


def test_windows_fit_the_models_context(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that accepts 128 tokens is given no more at once."""
    monkeypatch.setitem(SMALL["gpt2"], "n_positions", 128)
    short = load_model(ModelConfig(source=str(save_model(tmp_path / "gpt2", "gpt2"))))
    assert short.context_tokens == 128
    assert take(short, corpus, tmp_path / "a").tokens >= RECIPE.tokens
