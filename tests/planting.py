"""A model, an SAE and a suite whose answer is known, small enough to be audited whole within seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from audit.capture.formats.own import CARD_FILE, CARD_SCHEMA, WEIGHTS_FILE
from audit.digests import digest_file

WIDTH = 128
FILLERS = [f"w{n}" for n in range(90)]
# Words of a concept share a direction; a single word has nothing but its own.
SHARING = [f"s{n}" for n in range(25)]
ALONE = "alpha"
WORDS = ["<pad>", "<end>", ALONE, *SHARING, *FILLERS]
SHARED_AXIS = WIDTH - 1
SITE = "resid_post.1"
PER_TEXT = 8


def save_model(folder: Path) -> Path:
    """Save a model whose residual stream is the word's own axis, and the shared one: its branches write nothing."""
    raw = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<end>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, bos_token_id=1, eos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(10 * torch.eye(len(WORDS), WIDTH))
        model.model.embed_tokens.weight[[WORDS.index(word) for word in SHARING], SHARED_AXIS] = 10
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    model.save_pretrained(folder)
    return folder


def save_sae(folder: Path) -> Path:
    """Save an SAE with one latent an axis: latent n fires on word n and on no other, the last one on all that share."""
    folder.mkdir()
    axes = torch.eye(WIDTH)
    save_file(
        {"w_enc": axes.clone(), "b_enc": torch.zeros(WIDTH), "w_dec": axes.clone(), "b_dec": torch.zeros(WIDTH)},
        folder / WEIGHTS_FILE,
    )
    card = {
        "schema": CARD_SCHEMA, "name": "planted", "site": SITE, "architecture": "topk", "latents": WIDTH, "k": 2,
        "d_model": WIDTH, "licence": "Apache-2.0", "weights_digest": digest_file(folder / WEIGHTS_FILE),
        "training": {"tokens": 1, "updates": 2, "data_digest": "none"},
    }  # fmt: skip
    (folder / CARD_FILE).write_text(json.dumps(card))
    return folder


def texts(rng: np.random.Generator, words: list[str]) -> dict[str, str]:
    """Return the arms of one scenario: in nine of ten the concept arm holds one of the words, nothing else differs."""

    def text(held: list[str]) -> str:
        chosen = list(rng.choice(FILLERS, size=PER_TEXT, replace=False))
        if held and rng.uniform() < 0.9:
            chosen[int(rng.integers(PER_TEXT))] = str(rng.choice(held))
        return " ".join(chosen)

    return {"concept": text(words), "control": text([]), "neutral": text([])}


def save_suite(folder: Path) -> Path:
    """Save a suite of a concept with a direction of its own, one that is a single word, and one of nothing."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name, words in (("direction", SHARING), ("word", [ALONE]), ("empty", [])):
        concept = {
            "schema": "affidavit/concept/1", "id": name, "domain": "tests", "title": name.capitalize(),
            "language": "en", "definition": "A word.", "why": "It is known.",
            "rules": [{"name": "None", "clause": "none"}],
            "scenarios": [
                {"id": f"{name}-{n}", "split": "discovery" if n < 40 else "confirmation",
                 "arms": texts(rng, words)}
                for n in range(64)
            ],
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(concept))
    suite = {
        "schema": "affidavit/suite/1", "id": "known", "title": "Known", "domain": "tests", "version": "1",
        "language": "en", "frames": [{"name": "plain", "template": "{text}"}],
        "concepts": ["direction", "word", "empty"],
    }  # fmt: skip
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    return folder
