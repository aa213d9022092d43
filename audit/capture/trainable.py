"""A model to be fine-tuned: as its own library loads it, in float32, with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audit.capture import embedded
from audit.capture.model_files import (
    digest_model,
    fetch_model,
    load_tokenizer,
    load_weights,
    quiet,
    require_model_folder,
)
from audit.config import DEFAULT_SOURCE


@dataclass(frozen=True, slots=True)
class TrainableModel:
    """A model on the processor without any kernel of ours; `digest` is the one that an audit of it records."""

    model: Any
    tokenizer: Any
    name: str
    digest: str

    def save(self, folder: Path) -> None:
        """Write weights, configuration and tokenizer in the layout of transformers."""
        with quiet():
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def load_trainable(source: str, *, say: embedded.Say = lambda _: None) -> TrainableModel:
    """Load a model to be fine-tuned.

    Args:
        source: `default`, a folder or a Hugging Face id.
        say: called with one line before each long step.

    Raises:
        ModelUnavailable: there is no such model here, and it cannot be downloaded.
    """
    folder, name = Path(source).expanduser(), source
    if source == DEFAULT_SOURCE:
        folder, name = embedded.ensure_default_model(say=say), embedded.NAME
    elif folder.is_dir():
        name = folder.resolve().name
    else:
        folder = fetch_model(source, say=say)
    require_model_folder(folder)
    with quiet():
        tokenizer = load_tokenizer(folder)
        model = load_weights(folder, dtype=torch.float32)
    return TrainableModel(model, tokenizer, name, digest_model(folder))
