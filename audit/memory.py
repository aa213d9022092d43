"""Memory that a stage has freed is given back to the system before the next one begins."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Return freed memory to the system, where the C library can.

    glibc keeps what was freed below the top of its heap: a gigabyte after the statistics of a full audit, on which the
    next stage's peak would stand. Elsewhere nothing happens.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
