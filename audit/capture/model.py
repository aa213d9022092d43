"""Load a causal language model with its tokenizer, and say exactly which one it is."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers import logging as transformers_logging

from audit.capture import embedded
from audit.config import DEFAULT_SOURCE, Dtype, ModelConfig
from audit.digests import digest_file, digest_tree
from audit.errors import ModelUnavailable, SiteNotFound
from audit.records import ModelRecord

_TORCH_DTYPE = {Dtype.FP32: torch.float32, Dtype.BF16: torch.bfloat16}
# Documentation and other frameworks' weights do not decide what the model computes.
_MODEL_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.gguf", "*.bin")
_GGUF_SUFFIX = ".gguf"


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
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 30))


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
    return _from_folder(_from_hub(config.source, say=say), config, name=config.source)


def find_layers(model: nn.Module) -> nn.ModuleList:
    """Return the decoder layers: the longest module list whose items hold a self-attention.

    Raises:
        SiteNotFound: the model has no such list.
    """
    expected = int(getattr(model.config, "num_hidden_layers", 0))
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == expected and expected > 0]
    if not lists:
        raise SiteNotFound(
            item=type(model).__name__,
            expected=f"one list of {expected} decoder layers",
            found="none",
            hint="Only decoder-only models with a plain stack of layers are supported.",
        )
    return lists[0]


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF file's model as a float32 safetensors folder that loads without de-quantising.

    Args:
        gguf: the file.
        target: a folder to create.
    """
    with _quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
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
    _require_model_folder(folder)
    with _quiet():
        tokenizer = _load_tokenizer(folder)
        try:
            model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=_TORCH_DTYPE[config.dtype])
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelUnavailable(
                item=str(folder),
                expected="a causal language model that transformers can load",
                found=str(error).splitlines()[0] if str(error) else type(error).__name__,
                hint="Check that the download is complete and that the architecture is supported.",
            ) from error
    paths = sorted({path for pattern in _MODEL_FILES for path in folder.glob(pattern)})
    digests = {p.name: digest_file(p) for p in paths if p.name != "affidavit-model.json"}
    return _assemble(model, tokenizer, config, name=name, digest=digest_tree(digests))


def _from_gguf(path: Path, config: ModelConfig) -> LoadedModel:
    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=_TORCH_DTYPE[config.dtype]
        )
    return _assemble(model, tokenizer, config, name=path.stem, digest=digest_tree({path.name: digest_file(path)}))


def _from_hub(source: str, *, say: embedded.Say) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for models that are not on disk
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    say(f"looking up {source} on the hub")
    try:
        return Path(snapshot_download(source, allow_patterns=[p for p in _MODEL_FILES if p != "*.gguf"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelUnavailable(
            item=f"model {source!r}",
            expected="a folder, a GGUF file, or the id of a model on the Hugging Face hub",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="Check the name and the network, or give the path of a local folder.",
        ) from error


def _require_model_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelUnavailable(
            item=str(folder),
            expected="a model folder with config.json, weights and tokenizer",
            found="no config.json",
            hint="Give the folder that `save_pretrained` wrote.",
        )


def _load_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - transformers has no common tokenizer type
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnavailable(
            item=str(folder),
            expected="a tokenizer beside the weights",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="Save the tokenizer into the model's folder.",
        ) from error
    if not tokenizer.is_fast:
        raise ModelUnavailable(
            item=str(folder),
            expected="a fast tokenizer (tokenizer.json), which knows where each token lies in the text",
            found="a slow tokenizer",
            hint="Convert it with transformers' `convert_slow_tokenizer`.",
        )
    return tokenizer


def _assemble(model: Any, tokenizer: Any, config: ModelConfig, *, name: str, digest: str) -> LoadedModel:  # noqa: ANN401
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().requires_grad_(requires_grad=False).to(device)
    source = config.source if config.source == DEFAULT_SOURCE else Path(config.source).name
    layers = find_layers(model)
    record = ModelRecord(
        name=name,
        source=embedded.PACKAGE if config.source == DEFAULT_SOURCE else source,
        architecture=type(model).__name__,
        digest=digest,
        parameters=sum(p.numel() for p in model.parameters()),
        layers=len(layers),
        width=int(model.config.hidden_size),
        dtype=config.dtype.value,
        chat_template=bool(getattr(tokenizer, "chat_template", None)),
    )
    return LoadedModel(model=model, tokenizer=tokenizer, layers=layers, record=record)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own bars and notices off stderr: the tool has one voice. Errors are raised, not printed."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()
