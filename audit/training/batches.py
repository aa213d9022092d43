"""Text sequences in batches: plain and chat apart, because only chat sequences begin alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from audit.capture.batches import Batch, make_batches, share_prefix
from audit.capture.model import LoadedModel
from audit.capture.sites import Site
from audit.training.sequences import TextSequence


def batches_by_format(
    model: LoadedModel, sequences: Sequence[TextSequence], *, upto: Site, batch_tokens: int
) -> Iterator[Batch[TextSequence]]:
    """Yield every sequence once, plain ones first; what the chat sequences start with is computed once.

    Args:
        model: the model that will run them.
        sequences: of either format, or of both.
        upto: the highest site that will be read.
        batch_tokens: positions a batch, padding included.
    """
    for chat in (False, True):
        part = [s for s in sequences if s.chat is chat]
        if part:
            prefix = share_prefix(model, part, upto=upto)
            yield from make_batches(part, batch_tokens=batch_tokens, prefix=prefix)
