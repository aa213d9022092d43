"""When memory is looked through for what nobody needs, and when it is given back to the system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# How many more objects there are before a collection.
_OBJECTS = 200_000


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Look for cycles seldom while millions of objects are made that stay: looking took a tenth of the time.

    What is there already is not looked at again until the end.
    """
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def give_back() -> None:
    """Return freed memory to the system, where the C library can.

    glibc keeps what was freed below the top of its heap: a gigabyte after the statistics of a full audit, on which the
    next stage's peak would stand. Elsewhere nothing happens.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
