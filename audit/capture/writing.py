"""Texts that grow by a token a step: the logits of the next token, and which positions a change concerns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from audit.capture.batches import Batch
from audit.capture.model import LoadedModel
from audit.capture.prompts import TokenisedPrompt


class CachedTexts:
    """Texts that grow by a token a step; keys and values of what was read are kept.

    Prompts are padded on the right, so the written tokens stand behind the padding, which nobody sees: positions are
    given, and the mask leaves the padding out.
    """

    def __init__(self, model: LoadedModel, batch: Batch[TokenisedPrompt]) -> None:
        self._model = model
        self._last: Tensor | None = batch.mask.sum(1) - 1
        self.changed = batch.content
        inputs: dict[str, Any] = batch.inputs(model)
        self._cache = inputs.get("past_key_values") or DynamicCache(config=model.model.config)
        inputs |= {"past_key_values": self._cache, "use_cache": True}
        self._inputs = inputs
        self._length = (batch.mask.sum(1) + batch.prefix.length).to(model.device)

    def step(self) -> Tensor:
        """Return (rows, vocabulary) logits of the next token."""
        logits: Tensor = self._model.model(**self._inputs).logits
        if self._last is None:
            return logits[:, -1].float()
        return logits[torch.arange(len(self._last)), self._last].float()

    def append(self, tokens: Tensor) -> None:
        """Take the token that each row goes on with."""
        mask = self._inputs["attention_mask"]
        self._inputs = {
            "input_ids": tokens[:, None],
            "attention_mask": torch.cat([mask, mask.new_ones(len(tokens), 1)], dim=1),
            "position_ids": self._length[:, None],
            "past_key_values": self._cache,
            "use_cache": True,
        }
        self._length = self._length + 1
        self._last = None
        self.changed = torch.ones(len(tokens), 1, dtype=torch.bool)


class WholeTexts:
    """Texts that grow by a token a step and are read again from the start: for models with windows or states."""

    def __init__(self, model: LoadedModel, batch: Batch[TokenisedPrompt]) -> None:
        self._model = model
        self._ids = [list(p.ids) for p in batch.prompts]
        self._content = [list(p.content) for p in batch.prompts]

    @property
    def changed(self) -> Tensor:
        """Return (rows, position) bool: the prompt's own words and all that was written."""
        longest = max(len(own) for own in self._content)
        return torch.tensor([own + [False] * (longest - len(own)) for own in self._content])

    def step(self) -> Tensor:
        """Return (rows, vocabulary) logits of the next token."""
        lengths = torch.tensor([len(own) for own in self._ids])
        longest = int(lengths.max())
        ids = torch.tensor([own + [0] * (longest - len(own)) for own in self._ids], device=self._model.device)
        mask = (torch.arange(longest) < lengths[:, None]).to(ids)
        logits: Tensor = self._model.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits[torch.arange(len(lengths)), lengths - 1].float()

    def append(self, tokens: Tensor) -> None:
        """Take the token that each row goes on with."""
        for row, token in enumerate(tokens.tolist()):
            self._ids[row].append(token)
            self._content[row].append(True)
