"""Small random models of several architectures with a real tokenizer, built here from their configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from audit.capture.model import LoadedModel, load_model
from audit.config import ModelConfig

CHAT = (
    "<|start|>system\nyou are a helpful assistant<|end|>\n"
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TEXTS = [
    "the nurse gave the patient a dose of medicine in the morning",
    "user assistant system you are a helpful assistant",
    "what should happen next in the ward, and who decides?",
    "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ .,!?%$'",
]
_WIDE = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
_OPT = {"hidden_size": 32, "ffn_dim": 64, "num_attention_heads": 4, "word_embed_proj_dim": 32,
        "max_position_embeddings": 256}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "llama": dict(_WIDE),
    "gpt2": {"n_embd": 32, "n_head": 4, "n_positions": 256},
    "gemma2": {**_WIDE, "head_dim": 8, "sliding_window": 16},
    "falcon": dict(_WIDE),
    "gemma": {**_WIDE, "head_dim": 8},
    "gemma3_text": {**_WIDE, "head_dim": 16, "sliding_window": 16},
    "gpt_neox": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4},
    "gptj": {"n_embd": 32, "n_head": 4, "n_positions": 256, "rotary_dim": 4},
    "mistral": {**_WIDE, "sliding_window": 16},
    "mixtral": {**_WIDE, "num_local_experts": 4},
    "olmo": dict(_WIDE),
    "olmo2": dict(_WIDE),
    "opt": dict(_OPT),
    "phi": dict(_WIDE),
    "phi3": {**_WIDE, "pad_token_id": 0},
    "qwen2": dict(_WIDE),
    "qwen3": {**_WIDE, "head_dim": 8},
    "stablelm": dict(_WIDE),
}
# The same architectures, wired otherwise.
WIRINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon, two norms": ("falcon", {"new_decoder_architecture": True}),
    "falcon, sequential": ("falcon", {"parallel_attn": False}),
    "gpt_neox, sequential": ("gpt_neox", {"use_parallel_residual": False}),
    "opt, normalised sums": ("opt", {"do_layer_norm_before": False}),
    "stablelm, parallel": ("stablelm", {"use_parallel_residual": True}),
}
LAYERS = 4


def make_tokenizer(*, chat: bool) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on a few lines."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|pad|>", "<|start|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    if chat:
        tokenizer.chat_template = CHAT
    return tokenizer


def save_model(folder: Path, kind: str, *, chat: bool = True, **changes: Any) -> Path:
    """Save a small random model of an architecture with its tokenizer; `changes` go into its configuration."""
    tokenizer = make_tokenizer(chat=chat)
    layers = {"n_layer": LAYERS} if kind in {"gpt2", "gptj", "bloom"} else {"num_hidden_layers": LAYERS}
    settings = {**layers, **SMALL.get(kind, {"hidden_size": 32}), **changes}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, **settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    # Fresh norms have a gain of one and no bias: what lies before and behind them would be the same.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=sorted(SMALL))
def any_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Return a small model of each architecture in turn."""
    folder = save_model(tmp_path_factory.mktemp("model") / request.param, request.param)
    return load_model(ModelConfig(source=str(folder)))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Return a small llama with a chat template."""
    return load_model(ModelConfig(source=str(save_model(tmp_path_factory.mktemp("model") / "small", "llama"))))


@pytest.fixture(scope="session", params=[*sorted(SMALL), *sorted(WIRINGS)])
def any_wiring(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Return a small model of each architecture in each of its wirings in turn, named after the wiring."""
    kind, changes = WIRINGS.get(request.param, (request.param, {}))
    folder = save_model(tmp_path_factory.mktemp("model") / request.param, kind, **changes)
    return load_model(ModelConfig(source=str(folder)))
