"""When a batch does not fit into memory its halves are run, down to single sequences, and that is said."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch

from audit.capture.batches import TokenSequence
from audit.errors import TooLarge

Say = Callable[[str], None]
R = TypeVar("R")


class Divisible(Protocol):
    """What can be run in two parts."""

    @property
    def prompts(self) -> Sequence[TokenSequence]:
        """Return what runs side by side."""

    def halves(self) -> tuple[Divisible, Divisible]:
        """Return two with half of them each."""


def run_halved(batch: Divisible, run: Callable[[Any], R], *, say: Say) -> list[R]:
    """Run a batch, or as many parts of it as memory makes necessary; return what each part gave, in order.

    Raises:
        TooLarge: one sequence alone does not fit.
    """
    try:
        return [run(batch)]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Outside the handler: the traceback holds the tensors of the attempt.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if len(batch.prompts) == 1:
        raise TooLarge(
            item=batch.prompts[0].label,
            expected="memory for one sequence",
            found=reason,
            hint="Free memory, choose a smaller SAE or run with model.dtype = bf16. Finished shards are kept.",
        )
    say(f"{len(batch.prompts)} sequences at once do not fit into memory; going on with half of them")
    return [result for half in batch.halves() for result in run_halved(half, run, say=say)]


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on a processor or on a GPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "could not create a memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error).lower() for word in words)
