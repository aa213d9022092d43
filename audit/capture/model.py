"""Load a causal language model with its tokenizer, and say exactly which one it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from audit.capture import embedded
from audit.capture.kernels import use_fast_linears
from audit.capture.layer_parts import holds_attention
from audit.capture.model_files import (
    TOKENIZER_FILES,
    digest_model,
    fetch_model,
    load_tokenizer,
    load_weights,
    quiet,
    require_model_folder,
)
from audit.config import DEFAULT_SOURCE, Dtype, ModelConfig
from audit.digests import digest_file, digest_tree
from audit.errors import SiteNotFound
from audit.records import ModelRecord

_GGUF_SUFFIX = ".gguf"
_TORCH_DTYPE = {Dtype.FP32: torch.float32, Dtype.BF16: torch.bfloat16}
# Measured on two cores: between 192 and 512 the speed changes by 5%, below it falls.
_PROCESSOR_TOKENS = 256
# Attention among packed tokens grows with their square.
_MOST_GPU_TOKENS = 4096
_LIVE_COPIES = 8
_CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run: evaluation mode, no gradients, on one device."""

    model: nn.Module
    tokenizer: Any
    layers: nn.ModuleList
    record: ModelRecord

    @property
    def device(self) -> torch.device:
        """Return the device of the first parameter."""
        return next(self.model.parameters()).device

    @property
    def context_tokens(self) -> int:
        """Return the longest prompt that the model accepts, in tokens."""
        config = _text_config(self.model)
        stated = (getattr(config, name, None) for name in _CONTEXT_NAMES)
        return int(next((value for value in stated if value), 1 << 30))

    @property
    def batch_tokens(self) -> int:
        """Return how many tokens this device runs at once with good speed.

        On a processor longer batches only leave its caches. On a GPU a quarter of its whole memory may hold the widest
        activations of a layer: of the whole, not of what is free, so that a resumed run meets the same batches.
        """
        if self.device.type != "cuda":
            return _PROCESSOR_TOKENS
        config = _text_config(self.model)
        widest = max(int(config.hidden_size), int(getattr(config, "intermediate_size", 0) or 4 * config.hidden_size))
        memory = torch.cuda.get_device_properties(self.device).total_memory
        return int(min(_MOST_GPU_TOKENS, max(_PROCESSOR_TOKENS, memory // 4 // (widest * 4 * _LIVE_COPIES))))


def load_model(config: ModelConfig, *, say: embedded.Say = lambda _: None) -> LoadedModel:
    """Load the configured model on the best device.

    Args:
        config: source and dtype. The source is `default`, a folder, a GGUF file or a Hugging Face id.
        say: called with one line before each long step.

    Raises:
        ModelUnavailable: there is no such model here, and it cannot be downloaded.
    """
    if config.source == DEFAULT_SOURCE:
        return _from_folder(embedded.ensure_default_model(say=say), config, name=embedded.NAME)
    path = Path(config.source).expanduser()
    if path.is_file() and path.suffix == _GGUF_SUFFIX:
        return _from_gguf(path, config)
    if path.is_dir():
        return _from_folder(path, config, name=path.resolve().name)
    return _from_folder(fetch_model(config.source, say=say), config, name=config.source)


def load_token_counter(source: str, *, say: embedded.Say = lambda _: None) -> Callable[[Sequence[str]], list[int]]:
    """Return a function that counts the tokens of texts, without special tokens; no weights are loaded.

    Args:
        source: `default`, a folder with a tokenizer, a GGUF file or a Hugging Face id.
        say: called with one line before each long step.

    Raises:
        ModelUnavailable: there is no such tokenizer here, and it cannot be downloaded.
    """
    path = Path(source).expanduser()
    if source == DEFAULT_SOURCE:
        path = embedded.ensure_default_model(say=say)
    elif not path.exists():
        path = fetch_model(source, say=say, patterns=TOKENIZER_FILES)
    with quiet():
        tokenizer = load_tokenizer(path)

    def count(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []

    return count


def find_layers(model: nn.Module) -> nn.ModuleList:
    """Return the decoder layers: the text decoder's one list with as many items as its configuration has layers.

    Vision and audio towers lie outside the text decoder; lists of experts lie inside a layer or hold no attention.

    Raises:
        SiteNotFound: the model has no such list, or several.
    """
    body: Any = model.get_decoder()  # type: ignore[operator]
    expected = int(getattr(_text_config(model), "num_hidden_layers", 0))
    lists = {
        name: module
        for name, module in body.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == expected > 0
    }
    outermost = {name: m for name, m in lists.items() if not any(name.startswith(f"{other}.") for other in lists)}
    attentive = {name: m for name, m in outermost.items() if any(holds_attention(layer) for layer in m)}
    # A recurrent model has layers without attention; its residual stream can be read all the same.
    found = attentive or outermost
    if len(found) != 1:
        raise SiteNotFound(
            item=type(model).__name__,
            expected=f"one list of {expected} decoder layers",
            found=", ".join(sorted(found)) or "none",
            hint="Only decoder-only models with a plain stack of layers are supported.",
        )
    return next(iter(found.values()))


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF file's model as a float32 safetensors folder that loads without de-quantising.

    Args:
        gguf: the file.
        target: a folder to create.
    """
    with quiet():
        model = load_weights(gguf, dtype=torch.float32)
        tokenizer = load_tokenizer(gguf)
    target.mkdir(parents=True)
    # The tensors are plain float32 now; the marker would make transformers look for a GGUF file again.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    tensors = {key: value.contiguous() for key, value in model.state_dict().items() if key not in tied}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _from_folder(folder: Path, config: ModelConfig, *, name: str) -> LoadedModel:
    require_model_folder(folder)
    with quiet():
        tokenizer = load_tokenizer(folder)
        model = load_weights(folder, dtype=_TORCH_DTYPE[config.dtype])
    return _assemble(model, tokenizer, config, name=name, digest=digest_model(folder))


def _from_gguf(path: Path, config: ModelConfig) -> LoadedModel:
    with quiet():
        tokenizer = load_tokenizer(path)
        model = load_weights(path, dtype=_TORCH_DTYPE[config.dtype])
    return _assemble(model, tokenizer, config, name=path.stem, digest=digest_tree({path.name: digest_file(path)}))


def _assemble(model: Any, tokenizer: Any, config: ModelConfig, *, name: str, digest: str) -> LoadedModel:  # noqa: ANN401
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().requires_grad_(requires_grad=False).to(device)
    if device == "cpu" and config.dtype is Dtype.FP32:
        use_fast_linears(model)
    source = config.source if config.source == DEFAULT_SOURCE else Path(config.source).name
    layers = find_layers(model)
    record = ModelRecord(
        name=name,
        source=embedded.PACKAGE if config.source == DEFAULT_SOURCE else source,
        architecture=type(model).__name__,
        digest=digest,
        parameters=sum(p.numel() for p in model.parameters()),
        layers=len(layers),
        width=int(_text_config(model).hidden_size),
        dtype=config.dtype.value,
        chat_template=bool(getattr(tokenizer, "chat_template", None)),
    )
    return LoadedModel(model=model, tokenizer=tokenizer, layers=layers, record=record)


def _text_config(model: nn.Module) -> Any:  # noqa: ANN401 - transformers has a class an architecture
    return model.config.get_text_config(decoder=True)  # type: ignore[operator, union-attr]
