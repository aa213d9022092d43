"""Certificates against a plain computation on a small model, and everything that must not become one."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from audit.analysis.fidelity import ALL
from audit.bench import open_bench
from audit.capture.formats.own import CARD_FILE
from audit.capture.model import LoadedModel, load_model
from audit.capture.sae import Sae, random_decoder
from audit.capture.sae_sources import load_sae
from audit.certification import (
    CERTIFICATE_FILE,
    CHAT,
    PLAIN,
    CheckRequest,
    certify,
    read_certificate,
    summary_of,
    write_certificate,
)
from audit.config import ModelConfig
from audit.digests import canonical_json, digest_file
from audit.errors import CorpusError, EvidenceError, OutputError, SaeInvalid, ShapeMismatch, SiteNotFound
from audit.progress import Silent
from audit.records import Certificate, Fidelity, TrainingPoint, as_json
from audit.training.corpus import load_corpus
from audit.training.sequences import SequenceMaker, TextSequence, take_tokens
from tests.capture.conftest import SMALL, save_model
from tests.capture.test_sae import LATENTS, WIDTH, K, write_sae
from tests.training.conftest import make_texts, write_jsonl

REGISTERS = ("web", "law", "dialogue")
LAYER = 2
TOKENS = 3000
# The seed of the certificate's sequences; a stored certificate can only be made again with the same.
SEED = 20260101
OUTLIER_FACTOR = 1.25
DEAD, DENSE = range(10), 10
CURVE = [
    {"step": n, "updates": 100 * n, "fvu_plain": 1 / n, "fvu_chat": None, "dead": 60 - n} for n in range(1, 61)
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parts:
    """Files that a check needs: a model, an SAE trained on another text, and a text."""

    model: Path
    sae: Path
    other: Path
    text: Path

    def request(self, **changes: object) -> CheckRequest:
        """Return a check of all of them that splices every sequence, with some fields changed."""
        plain = CheckRequest(
            sae=str(self.sae),
            model=ModelConfig(str(self.model)),
            text=self.text,
            tokens=TOKENS,
            spliced_tokens=TOKENS,
            chat_share=0.4,
            all_documents=True,
        )
        return replace(plain, **changes)  # type: ignore[arg-type]


def save_lively_model(folder: Path) -> Path:
    """Save a small model whose layers react to what they read and whose head has learnt the tests' language a little.

    Its layers are random; the head is a ridge regression from the last hidden state to the next token, so that to know
    less about the text costs nats.
    """
    save_model(folder, "llama")
    change_weights(folder, lambda name, tensor: tensor * (1 if "norm" in name else 8))
    model = load_model(ModelConfig(str(folder)))
    ids = torch.tensor([model.tokenizer(" ".join(make_texts(20, seed=1)))["input_ids"][:2000]])
    with torch.no_grad():
        hidden = model.model.get_decoder()(input_ids=ids).last_hidden_state[0, :-1]
    following = functional.one_hot(ids[0, 1:], model.model.config.vocab_size).float()
    head = 12 * torch.linalg.solve(hidden.T @ hidden + torch.eye(WIDTH), hidden.T @ following).T
    change_weights(folder, lambda name, tensor: head if "lm_head" in name else tensor)
    return folder


def change_weights(folder: Path, change: Callable[[str, Tensor], Tensor]) -> None:
    """Change every tensor of a saved model."""
    path = folder / "model.safetensors"
    tensors = {name: change(name, tensor).contiguous() for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def tied(tensors: dict[str, Tensor]) -> None:
    """Make an SAE that reconstructs something: it reads what it writes; ten latents never fire, one often does."""
    tensors["w_enc"] = tensors["w_dec"].clone()
    tensors["b_enc"] = torch.full((LATENTS,), -1.9)
    tensors["b_enc"][list(DEAD)] = -1e4
    tensors["b_enc"][DENSE] = 0.0
    tensors["b_dec"] *= 0.1


def tied_in_reverse(tensors: dict[str, Tensor]) -> None:
    """Tie the encoder and turn the order of the latents round."""
    tied(tensors)
    for name in ("w_enc", "b_enc", "w_dec"):
        tensors[name] = tensors[name].flip(0).contiguous()


def save_sae(
    folder: Path,
    *,
    site: str = f"resid_post.{LAYER}",
    name: str = "small",
    permuted: bool = False,
    **training: object,
) -> Path:
    """Write a small SAE whose card has a curve and an outlier factor, with some of its training changed.

    Permuted, its latents come in reverse order: another file with the same directions.
    """
    write_sae(folder, site=site, name=name, change=tied_in_reverse if permuted else tied)
    card = json.loads((folder / CARD_FILE).read_text())
    card["training"] |= {"curve": CURVE, "harvest": {"outlier_norm_factor": OUTLIER_FACTOR}} | training
    (folder / CARD_FILE).write_text(json.dumps(card))
    return folder


def save_text(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write so many different documents, in three registers by turns."""
    texts = make_texts(count, seed=seed)
    return write_jsonl(path, [{"text": text, "register": REGISTERS[n % 3]} for n, text in enumerate(texts)])


def make_parts(folder: Path, *, documents: int) -> Parts:
    """Write a model, an SAE, the same SAE with its latents in reverse order, and documents."""
    sae = save_sae(folder / "sae")
    other = save_sae(folder / "other", name="other", permuted=True)
    text = save_text(folder / "corpus.jsonl", documents)
    return Parts(save_lively_model(folder / "model"), sae, other, text)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Return a model, an SAE and 60 documents. Tests must not change them."""
    return make_parts(tmp_path_factory.mktemp("parts"), documents=60)


@pytest.fixture(scope="module")
def model(parts: Parts) -> LoadedModel:
    """Return the model, loaded."""
    return load_model(ModelConfig(str(parts.model)))


@pytest.fixture(scope="module")
def sae(parts: Parts) -> Sae:
    """Return the SAE, loaded."""
    return load_sae(str(parts.sae))


@pytest.fixture(scope="module")
def certificate(parts: Parts) -> Certificate:
    """Return the certificate of the SAE."""
    return certify(parts.request(other_seed=str(parts.other)), progress=Silent())


@dataclass(frozen=True, slots=True)
class Reading:
    """What one sequence alone, unpadded and whole, gives: kept positions only, and sums of its predictions.

    Args:
        residual, rebuilt: (kept, d_model).
        active: (kept, latents), whether a latent fires.
        losses: predicted tokens, cross-entropy, the same spliced and ablated, and KL(clean || spliced).
    """

    sequence: TextSequence
    residual: Tensor
    rebuilt: Tensor
    active: Tensor
    losses: NDArray[np.float64]


def forward(
    model: LoadedModel, sequence: TextSequence, change: Callable[[Tensor], Tensor] = lambda rows: rows
) -> tuple[Tensor, Tensor]:
    """Return the residual (position, d_model) that the site had and the log probabilities after its change."""
    seen = []

    def hook(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
        rows = output[0] if isinstance(output, tuple) else output
        seen.append(rows[0].clone())
        changed = change(rows[0])[None]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with torch.no_grad(), model.layers[LAYER].register_forward_hook(hook):
        logits = model.model(input_ids=torch.tensor([sequence.ids]), use_cache=False).logits[0]
    return seen[0], logits.double().log_softmax(-1)


def through(sae: Sae, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the reconstruction of rows and which latents fire, by the formula of TopK."""
    pre = (rows - sae.b_dec) @ sae.w_enc.T + sae.b_enc
    values, latents = pre.topk(K, dim=1)
    dense = torch.zeros_like(pre).scatter(1, latents, values.relu())
    return dense @ sae.w_dec + sae.b_dec, dense > 0


def read_directly(model: LoadedModel, sae: Sae, sequences: list[TextSequence], factor: float) -> list[Reading]:
    """Read each sequence alone; the outlier limit and the mean are taken from the sequences that calibrate a run."""
    sample = sequences[:: max(1, len(sequences) // 48)]
    content = torch.cat([forward(model, s)[0][torch.tensor(s.content)] for s in sample])
    limit = factor * content.norm(dim=1).median()
    mean = content[content.norm(dim=1) <= limit].mean(0)
    readings = []
    for sequence in sequences:
        words, ids = torch.tensor(sequence.content), torch.tensor(sequence.ids)
        residual, clean = forward(model, sequence)
        kept = words & (residual.norm(dim=1) <= limit)
        rebuilt, active = through(sae, residual[kept])
        spliced = forward(model, sequence, lambda rows, kept=kept, new=rebuilt: rows.index_put((kept,), new))[1]
        ablated = forward(model, sequence, lambda rows, kept=kept: rows.index_put((kept,), mean))[1]
        at = (words[:-1] & words[1:]).nonzero()[:, 0]
        entropies = [-float(x[at, ids[at + 1]].sum()) for x in (clean, spliced, ablated)]
        divergence = float((clean[at].exp() * (clean[at] - spliced[at])).sum())
        losses = np.array([len(at), *entropies, divergence])
        readings.append(Reading(sequence, residual[kept], rebuilt, active, losses))
    return readings


def sequences_of(
    model: LoadedModel, text: Path, *, tokens: int = TOKENS, chat_share: float = 0.4, held_out: bool = False
) -> list[TextSequence]:
    """Return the sequences of a text, or of what is held out of it: one document in 60 by the digest of its text."""
    documents = [
        d
        for d in load_corpus(text, seed=SEED).documents
        if not held_out or int(hashlib.sha256(d.text.encode()).hexdigest(), 16) % 60 == 0
    ]
    return take_tokens(SequenceMaker(model.tokenizer, chat_share=chat_share, seed=SEED), documents, tokens=tokens)[0]


def assert_equal(row: Fidelity | None, readings: list[Reading]) -> None:
    """Compare a row with what the readings give: reconstruction, firing, and predictions."""
    assert row is not None
    residual = torch.cat([r.residual for r in readings]).double()
    rebuilt = torch.cat([r.rebuilt for r in readings]).double()
    count = torch.cat([r.active for r in readings]).sum(1).numpy()
    fvu = (residual - rebuilt).pow(2).sum() / (residual - residual.mean(0)).pow(2).sum()
    assert row.tokens == len(residual)
    assert row.fvu == pytest.approx(float(fvu), rel=1e-4)
    assert row.cosine == pytest.approx(float(functional.cosine_similarity(residual, rebuilt).mean()), rel=1e-4)
    assert row.l0_mean == pytest.approx(count.mean(), rel=1e-4)
    low, high = np.quantile(count, (0.05, 0.95), method="inverted_cdf")
    assert (row.l0_p05, row.l0_p95) == (low, high)
    tokens, clean, spliced, ablated, divergence = sum(r.losses for r in readings)
    assert row.spliced_tokens == tokens
    assert row.delta_ce is not None
    assert row.ce == pytest.approx(clean / tokens, abs=1e-3)
    assert row.delta_ce.value == pytest.approx((spliced - clean) / tokens, abs=1e-3)
    assert row.ce_recovered == pytest.approx(1 - (spliced - clean) / (ablated - clean), abs=1e-3)
    assert row.kl == pytest.approx(divergence / tokens, abs=1e-3)


def test_every_row_equals_a_plain_computation(
    certificate: Certificate, parts: Parts, model: LoadedModel, sae: Sae
) -> None:
    """All, each format and each register: each sequence alone, unbatched, through hooks and formulas written here."""
    readings = read_directly(model, sae, sequences_of(model, parts.text), OUTLIER_FACTOR)
    assert [row.scope for row in certificate.rows] == [ALL, PLAIN, CHAT, *sorted(REGISTERS)]
    assert_equal(certificate.row(ALL), readings)
    for scope, chat in ((PLAIN, False), (CHAT, True)):
        assert_equal(certificate.row(scope), [r for r in readings if r.sequence.chat is chat])
    for register in REGISTERS:
        assert_equal(certificate.row(register), [r for r in readings if r.sequence.register == register])
    active = torch.cat([r.active for r in readings])
    whole = certificate.row(ALL)
    assert whole is not None
    assert whole.dead_share == pytest.approx(float((active.sum(0) == 0).double().mean()))
    assert whole.dense_share == pytest.approx(float((active.double().mean(0) > 0.1).double().mean()))
    assert round(whole.dead_share * LATENTS) >= len(DEAD)
    assert whole.dense_share > 0
    assert whole.l0_p05 < whole.l0_p95
    # The computation would prove nothing if splicing changed nothing or no position were left out.
    assert whole.delta_ce is not None
    assert whole.delta_ce.value > 0.05
    assert whole.ce_recovered is not None
    words = sum(sum(s.sequence.content) for s in readings)
    assert certificate.outliers == words - len(active) > 0


def test_the_interval_is_over_documents(certificate: Certificate, parts: Parts, model: LoadedModel, sae: Sae) -> None:
    """The sequences of one document are one cluster: its bounds are those of a bootstrap over documents."""
    readings = read_directly(model, sae, sequences_of(model, parts.text), OUTLIER_FACTOR)
    names = sorted({r.sequence.document for r in readings})
    sums = np.stack([sum(r.losses[:3] for r in readings if r.sequence.document == name) for name in names])
    drawn = sums[np.random.default_rng(1).integers(0, len(names), (20_000, len(names)))].sum(axis=1)
    low, high = np.quantile((drawn[:, 2] - drawn[:, 1]) / drawn[:, 0], (0.025, 0.975))
    whole = certificate.row(ALL)
    assert whole is not None
    assert whole.delta_ce is not None
    assert 8 <= len(names) < len(readings)
    assert whole.delta_ce.low == pytest.approx(low, abs=0.1 * (high - low))
    assert whole.delta_ce.high == pytest.approx(high, abs=0.1 * (high - low))


def test_registers_and_formats_partition_the_tokens(certificate: Certificate) -> None:
    """Plain and chat are all; so are the registers; neither counts a token twice."""
    rows = {row.scope: row for row in certificate.rows}
    for part in ((PLAIN, CHAT), REGISTERS):
        for count in ("tokens", "spliced_tokens"):
            assert sum(getattr(rows[scope], count) for scope in part) == getattr(rows[ALL], count)
        assert all(rows[scope].dead_share is None for scope in part)
    assert certificate.tokens == rows[ALL].tokens
    assert certificate.tokens + certificate.outliers >= TOKENS


def test_a_certificate_says_what_was_measured(
    certificate: Certificate, parts: Parts, model: LoadedModel, sae: Sae
) -> None:
    """SAE, model and text by name and digest; how many documents and sequences; a second run says the same."""
    sequences = sequences_of(model, parts.text)
    assert (certificate.sae, certificate.sae_digest) == ("small", sae.record.digest)
    assert (certificate.model, certificate.model_digest) == ("model", model.record.digest)
    assert (certificate.text, certificate.text_digest) == ("corpus.jsonl", digest_file(parts.text))
    assert (certificate.site, certificate.dtype) == (f"resid_post.{LAYER}", "fp32")
    assert (certificate.sequences, certificate.documents) == (len(sequences), len({s.document for s in sequences}))
    again = certify(parts.request(other_seed=str(parts.other)), progress=Silent())
    assert canonical_json(as_json(again)) == canonical_json(as_json(certificate))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_format_alone(parts: Parts, model: LoadedModel, sae: Sae, share: float) -> None:
    """The other format has no row; chat, whose prompts share a prefix that runs once, equals the plain computation."""
    made = certify(parts.request(chat_share=share, tokens=1000), progress=Silent())
    sequences = sequences_of(model, parts.text, tokens=1000, chat_share=share)
    if share:
        # The first document is plain, whatever the share: nothing was read before it.
        assert not sequences[0].chat
        assert_equal(made.row(CHAT), read_chat(model, sae, sequences))
    else:
        assert made.row(CHAT) is None
        assert replace(made.rows[0], scope="", dead_share=None, dense_share=None) == replace(made.rows[1], scope="")


def read_chat(model: LoadedModel, sae: Sae, sequences: list[TextSequence]) -> list[Reading]:
    """Return the readings of the sequences in chat format."""
    return [r for r in read_directly(model, sae, sequences, OUTLIER_FACTOR) if r.sequence.chat]


def test_fewer_sequences_are_spliced_than_read(parts: Parts, model: LoadedModel, sae: Sae) -> None:
    """About the wanted number of tokens, spread over all; reconstruction is measured on everything."""
    made = certify(parts.request(spliced_tokens=TOKENS // 3), progress=Silent())
    readings = read_directly(model, sae, sequences_of(model, parts.text), OUTLIER_FACTOR)
    by_format = ([r for r in readings if r.sequence.chat is chat] for chat in (False, True))
    tokens, clean, spliced, *_ = sum(r.losses for part in by_format for r in part[::3])
    whole = made.row(ALL)
    assert whole is not None
    assert whole.delta_ce is not None
    assert whole.tokens == sum(len(r.residual) for r in readings)
    assert whole.spliced_tokens == tokens == pytest.approx(TOKENS / 3, rel=0.35)
    assert whole.delta_ce.value == pytest.approx((spliced - clean) / tokens, abs=1e-3)


def test_only_held_out_documents_are_read_unless_asked(parts: Parts, model: LoadedModel, tmp_path: Path) -> None:
    """One document in 60 is left, whatever the file is packed in, and the numbers are those of these alone."""
    text = save_text(tmp_path / "corpus.jsonl", 400)
    request = parts.request(text=text, tokens=500, spliced_tokens=500, all_documents=False)
    made = certify(request, progress=Silent())
    sequences = sequences_of(model, text, tokens=500, held_out=True)
    assert "held out" in made.selection
    assert made.documents == len({s.document for s in sequences}) < 10
    assert_equal(made.row(ALL), read_directly(model, load_sae(str(parts.sae)), sequences, OUTLIER_FACTOR))
    bench = open_bench(request.sae, request.model, text, all_documents=False, progress=Silent())
    assert 0 < len(bench.documents) < 20
    assert all(int(hashlib.sha256(d.text.encode()).hexdigest(), 16) % 60 == 0 for d in bench.documents)
    packed = tmp_path / "other.jsonl.gz"
    packed.write_bytes(gzip.compress(text.read_bytes() + b"\n"))
    again = open_bench(request.sae, request.model, packed, all_documents=False, progress=Silent())
    assert again.documents == bench.documents


def test_all_documents_are_read_on_request_and_it_is_said(parts: Parts, tmp_path: Path) -> None:
    """Whether they were trained on is the user's word, and the certificate does not say more than that."""
    text = save_text(tmp_path / "corpus.jsonl", 400)
    request = parts.request(text=text)
    bench = open_bench(request.sae, request.model, text, all_documents=True, progress=Silent())
    assert len(bench.documents) == 400
    assert "not checked" in bench.selection


def test_too_little_text_is_told_with_its_size(parts: Parts, model: LoadedModel, tmp_path: Path) -> None:
    """The error names how many tokens there are, held out or not, and asking for so many works."""
    text = save_text(tmp_path / "corpus.jsonl", 200)
    for everything in (True, False):
        sequences = sequences_of(model, text, tokens=10**9, held_out=not everything)
        there = sum(sum(s.content) for s in sequences)
        request = parts.request(text=text, tokens=there + 1, spliced_tokens=100, all_documents=everything)
        with pytest.raises(CorpusError) as caught:
            certify(request, progress=Silent())
        assert caught.value.found == f"{there:,}"
        assert f"{there:,} with --tokens" in caught.value.hint
    assert certify(replace(request, tokens=there), progress=Silent()).sequences == len(sequences)
    assert certify(replace(request, tokens=None), progress=Silent()).sequences == len(sequences)


def test_a_text_without_a_held_out_document_is_refused(parts: Parts, tmp_path: Path) -> None:
    """Three documents, none of them held out: there is nothing to certify on."""
    text = save_text(tmp_path / "corpus.jsonl", 3, seed=2)
    assert not load_corpus(text, seed=0).split(held_out=True)
    with pytest.raises(CorpusError, match=r"corpus\.jsonl") as caught:
        certify(parts.request(text=text, all_documents=False), progress=Silent())
    assert "holds out" in caught.value.expected


def test_an_sae_is_no_second_training_of_itself(parts: Parts) -> None:
    """Matched with itself every latent would be found again."""
    with pytest.raises(SaeInvalid, match="--other-seed"):
        certify(parts.request(other_seed=str(parts.sae)), progress=Silent())


def test_an_sae_of_another_width_is_refused(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both widths are named."""
    monkeypatch.setitem(SMALL["llama"], "hidden_size", 2 * WIDTH)
    other = save_model(tmp_path / "wide", "llama")
    with pytest.raises(ShapeMismatch) as caught:
        certify(parts.request(model=ModelConfig(str(other))), progress=Silent())
    assert (caught.value.expected, caught.value.found) == ("activations of width 32 at resid_post.2", "width 64")


def test_a_site_that_the_model_lacks_is_refused(parts: Parts, tmp_path: Path) -> None:
    """The model has layers 0 to 3."""
    folder = save_sae(tmp_path / "sae", site="resid_post.4")
    with pytest.raises(SiteNotFound, match=r"resid_post\.4"):
        certify(parts.request(sae=str(folder)), progress=Silent())


def test_another_seed_of_another_site_is_refused(parts: Parts, tmp_path: Path) -> None:
    """Latents of two sites are not two readings of the same thing."""
    other = save_sae(tmp_path / "other", site="resid_post.1", name="other")
    with pytest.raises(SaeInvalid, match="--other-seed other") as caught:
        certify(parts.request(other_seed=str(other)), progress=Silent())
    assert "resid_post.1" in caught.value.found


def test_the_same_directions_in_another_order_are_all_found_again(
    certificate: Certificate, parts: Parts, sae: Sae
) -> None:
    """The weights of both trainings reach the matching; the summary leaves out the cosine of each latent only."""
    stability = certificate.stability
    assert stability is not None
    assert (stability.other, stability.other_digest) == ("other", load_sae(str(parts.other)).record.digest)
    assert (stability.share_decoder, stability.share_both) == (1, 1)
    assert stability.cosines == (1.0,) * LATENTS
    chance = sae.w_dec @ random_decoder(LATENTS, WIDTH, seed=SEED).T
    assert stability.random_share <= float((chance.max(dim=1).values >= stability.threshold).double().mean())
    summary = summary_of(certificate)
    assert summary == replace(certificate, stability=replace(stability, cosines=()))
    assert summary_of(replace(certificate, stability=None)).stability is None


def test_the_curve_of_the_card_is_thinned_and_keeps_its_end(certificate: Certificate) -> None:
    """60 points become 24 at most, in order, evenly spaced, the last one among them."""
    points = [TrainingPoint(100 * n, 1 / n, None, 60 - n) for n in range(1, 61)]
    assert certificate.curve[-1] == points[-1]
    assert 12 <= len(certificate.curve) <= 24
    assert set(certificate.curve) <= set(points)
    assert {b.updates - a.updates for a, b in zip(certificate.curve, certificate.curve[1:], strict=False)} == {300}


@pytest.mark.parametrize("curve", [None, [], "text"])
def test_a_card_without_a_curve_gives_none(parts: Parts, tmp_path: Path, curve: object) -> None:
    """A foreign SAE's card has no curve of ours."""
    folder = save_sae(tmp_path / "sae", curve=curve)
    made = certify(parts.request(sae=str(folder), tokens=500, spliced_tokens=100), progress=Silent())
    assert made.curve == ()


def test_a_short_curve_is_kept_whole(parts: Parts, tmp_path: Path) -> None:
    """24 points are not too many."""
    folder = save_sae(tmp_path / "sae", curve=CURVE[:24])
    made = certify(parts.request(sae=str(folder), tokens=500, spliced_tokens=100), progress=Silent())
    assert [point.updates for point in made.curve] == [point["updates"] for point in CURVE[:24]]


@pytest.mark.parametrize("layer", [LAYER - 1, LAYER + 1])
def test_a_model_that_computes_nan_gets_no_certificate(parts: Parts, tmp_path: Path, layer: int) -> None:
    """Below the site the residual is not finite, above it the predictions are not; neither becomes a number."""
    folder = save_lively_model(tmp_path / "model")

    def damage(name: str, tensor: Tensor) -> Tensor:
        if name.endswith(f"layers.{layer}.mlp.down_proj.weight"):
            tensor[0, 0] = math.nan
        return tensor

    change_weights(folder, damage)
    with pytest.raises(EvidenceError):
        certify(parts.request(model=ModelConfig(str(folder)), tokens=500, spliced_tokens=500), progress=Silent())


@pytest.mark.parametrize("name", [ALL, PLAIN, CHAT])
def test_a_register_cannot_take_the_place_of_a_format(parts: Parts, tmp_path: Path, name: str) -> None:
    """A text with a register of that name is refused; its row would otherwise stand for another."""
    text = write_jsonl(
        tmp_path / "corpus.jsonl",
        [{"text": t, "register": name if n % 2 else "law"} for n, t in enumerate(make_texts(9))],
    )
    with pytest.raises(CorpusError, match=name):
        certify(parts.request(text=text, tokens=500, spliced_tokens=100), progress=Silent())


def test_a_certificate_is_read_back_as_it_was_written(
    certificate: Certificate, sae: Sae, model: LoadedModel, tmp_path: Path
) -> None:
    """Field for field, and nothing else is left in the folder; a second one replaces it."""
    path = write_certificate(certificate, tmp_path)
    assert path == tmp_path / CERTIFICATE_FILE
    assert [p.name for p in tmp_path.iterdir()] == [CERTIFICATE_FILE]
    assert read_certificate(tmp_path, sae.record, model.record) == (certificate, "")
    changed = replace(certificate, tool="affidavit next")
    write_certificate(changed, tmp_path)
    assert read_certificate(tmp_path, sae.record, model.record) == (changed, "")


def test_a_certificate_speaks_of_one_sae_on_one_model_only(
    certificate: Certificate, sae: Sae, model: LoadedModel, tmp_path: Path
) -> None:
    """Other weights or another build get none, with the reason; so does a folder without one."""
    assert read_certificate(tmp_path, sae.record, model.record)[0] is None
    assert "sae check" in read_certificate(tmp_path, sae.record, model.record)[1]
    write_certificate(certificate, tmp_path)
    retrained = replace(sae.record, digest="sha256:other")
    found, note = read_certificate(tmp_path, retrained, model.record)
    assert found is None
    assert "other weights" in note
    rebuilt = replace(model.record, digest="sha256:other")
    found, note = read_certificate(tmp_path, sae.record, rebuilt)
    assert found is None
    assert "model in another build" in note


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda _: b"",
        lambda _: b"[]",
        lambda _: b"\xff\xfe",
        lambda data: data.replace(b'"fvu"', b'"fvv"', 1),
        lambda data: data.replace(b'"tokens": ', b'"tokens": -0.5e', 1),
        lambda data: data.replace(b'"schema": "affidavit/sae-certificate/1"', b'"schema": "affidavit/other/9"'),
        lambda data: data.replace(b'"cosine": 0', b'"cosine": NaN, "was": 0', 1),
    ],
)
def test_a_damaged_certificate_is_an_error_not_an_absence(
    certificate: Certificate, sae: Sae, model: LoadedModel, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Half a file, another kind of file, a renamed field, another schema."""
    path = write_certificate(certificate, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    with pytest.raises(EvidenceError, match=r"certificate\.json"):
        read_certificate(tmp_path, sae.record, model.record)


def test_a_number_that_is_none_is_not_read(
    certificate: Certificate, sae: Sae, model: LoadedModel, tmp_path: Path
) -> None:
    """Python's JSON takes NaN; a certificate does not."""
    path = write_certificate(replace(certificate, outlier_limit=12.5), tmp_path)
    path.write_text(path.read_text().replace('"outlier_limit": 12.5', '"outlier_limit": NaN'))
    assert "NaN" in path.read_text()
    with pytest.raises(EvidenceError):
        read_certificate(tmp_path, sae.record, model.record)


def test_a_number_that_is_none_is_not_written(certificate: Certificate, tmp_path: Path) -> None:
    """And no file is left that could be read as one."""
    with pytest.raises(EvidenceError):
        write_certificate(replace(certificate, outlier_limit=math.nan), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_is_not_read(
    certificate: Certificate, sae: Sae, model: LoadedModel, tmp_path: Path
) -> None:
    """A kill leaves at most the hidden file, which is no certificate and is replaced by the next write."""
    unfinished = tmp_path / f".{CERTIFICATE_FILE}.unfinished"
    unfinished.write_text(json.dumps(as_json(certificate))[:500])
    assert read_certificate(tmp_path, sae.record, model.record)[0] is None
    write_certificate(certificate, tmp_path)
    assert not unfinished.exists()
    assert read_certificate(tmp_path, sae.record, model.record)[0] == certificate


def test_a_place_that_cannot_be_written_is_told(certificate: Certificate, tmp_path: Path) -> None:
    """A missing folder, and a folder that stands where the file should."""
    with pytest.raises(OutputError, match=r"certificate\.json"):
        write_certificate(certificate, tmp_path / "none")
    (tmp_path / CERTIFICATE_FILE / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"certificate\.json"):
        write_certificate(certificate, tmp_path)
