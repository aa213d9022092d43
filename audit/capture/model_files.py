"""Read the files of a model in the layout of transformers, and refuse what is damaged, incomplete or of another."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers import logging as transformers_logging

from audit.capture import embedded
from audit.digests import digest_file, digest_tree
from audit.errors import ModelUnavailable

# Documentation and other frameworks' weights do not decide what the model computes.
_MODEL_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.gguf", "*.bin")
_WEIGHT_FILES = tuple(pattern for pattern in _MODEL_FILES if pattern != "*.gguf")
TOKENIZER_FILES = ("*.json", "*.model", "*.txt", "*.jinja")
# What transformers lets through when files are damaged, cut off or of an unknown architecture.
_UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    IndexError,
    EOFError,
    struct.error,
    pickle.UnpicklingError,
    SafetensorError,
)
# Weights that decide nothing about a text model's residual stream: buffers that older versions of transformers saved,
# towers for other inputs, and heads for other tasks.
_HARMLESS = re.compile(
    r"(^|\.)(rotary_emb\.inv_freq|(attn|attention|self_attn|self_attention)\.(masked_)?bias|position_ids)$"
    r"|(^|[._])(vision|visual|image|audio|multi_modal_projector|v_head|score|classifier)([._]|$)"
)
_NAMED_KEYS = 4


def load_weights(path: Path, *, dtype: torch.dtype) -> Any:  # noqa: ANN401 - transformers has a class an architecture
    """Load a model all of whose weights come from its files.

    Args:
        path: a folder or a GGUF file.
        dtype: of the weights in memory.

    Raises:
        ModelUnavailable: the files cannot be read, or do not hold exactly the weights that their configuration needs.
    """
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            **_source(path),
            dtype=dtype,
            # Else transformers would ask on stdin whether to run a repository's code.
            trust_remote_code=False,
            output_loading_info=True,
            # Reported below together with the missing weights.
            ignore_mismatched_sizes=True,
        )
    except _UNREADABLE as error:
        raise ModelUnavailable(
            item=str(path),
            expected="a causal language model that transformers can load",
            found=_reason(error),
            hint="Check that the download is complete and that the architecture is supported.",
        ) from error
    # transformers fills what is missing with random numbers and passes over what it does not expect.
    wrong = {
        "missing": sorted(info["missing_keys"]),
        "of another shape": sorted(str(key[0]) for key in info["mismatched_keys"]),
        "not used": sorted(key for key in info["unexpected_keys"] if not _HARMLESS.search(key)),
    }
    if any(wrong.values()):
        raise ModelUnavailable(
            item=str(path),
            expected=f"exactly the weights of a {type(model).__name__}, as its configuration says",
            found="; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in wrong.items() if keys),
            hint="The configuration belongs to another model, or a part of the weights is not there.",
        )
    return model


def fetch_model(source: str, *, say: embedded.Say, patterns: Sequence[str] = _WEIGHT_FILES) -> Path:
    """Return the folder of a model of the Hugging Face hub, downloaded where the cache lacks it.

    Raises:
        ModelUnavailable: there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for models that are not on disk
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    say(f"looking up {source} on the hub")
    try:
        return Path(snapshot_download(source, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelUnavailable(
            item=f"model {source!r}",
            expected="a folder, a GGUF file, or the id of a model on the Hugging Face hub",
            found=_reason(error),
            hint="Check the name and the network, or give the path of a local folder.",
        ) from error


def require_model_folder(folder: Path) -> None:
    """Refuse a folder without the configuration of a model.

    Raises:
        ModelUnavailable: it has none.
    """
    if not (folder / "config.json").is_file():
        raise ModelUnavailable(
            item=str(folder),
            expected="a model folder with config.json, weights and tokenizer",
            found="no config.json",
            hint="Give the folder that `save_pretrained` wrote.",
        )


def load_tokenizer(path: Path) -> Any:  # noqa: ANN401 - transformers has no common tokenizer type
    """Load the tokenizer of a folder or a GGUF file.

    Raises:
        ModelUnavailable: there is none, or not a fast one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(**_source(path), trust_remote_code=False)
    except _UNREADABLE as error:
        raise ModelUnavailable(
            item=str(path),
            expected="a tokenizer beside the weights",
            found=_reason(error),
            hint="Save the tokenizer into the model's folder.",
        ) from error
    if not tokenizer.is_fast:
        raise ModelUnavailable(
            item=str(path),
            expected="a fast tokenizer (tokenizer.json), which knows where each token lies in the text",
            found="a slow tokenizer",
            hint="Convert it with transformers' `convert_slow_tokenizer`.",
        )
    return tokenizer


def digest_model(folder: Path) -> str:
    """Return the digest of a folder's model: over the names and contents of what decides what it computes."""
    paths = sorted({path for pattern in _MODEL_FILES for path in folder.glob(pattern)})
    return digest_tree({p.name: digest_file(p) for p in paths if p.name != "affidavit-model.json"})


def _source(path: Path) -> dict[str, str]:
    """Return the arguments by which transformers finds a folder or a GGUF file."""
    if path.is_file():
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": str(path)}


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        # torch's own text tells the reader to allow arbitrary code.
        return "a weights file that is damaged, or holds more than tensors"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _some(keys: list[str]) -> str:
    more = len(keys) - _NAMED_KEYS
    return ", ".join(keys[:_NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
