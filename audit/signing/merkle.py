"""The Merkle tree of RFC 6962: one root over a list of leaves, in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

# Without the two prefixes a node could be passed off as a leaf (RFC 6962, section 2.1).
_LEAF, _NODE = b"\x00", b"\x01"


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the tree's hash, 32 bytes; of no leaves it is the SHA-256 of nothing.

    A left subtree holds the largest power of two of leaves that leaves something for the right one.

    Args:
        leaves: what each leaf holds, in order.
    """
    # Complete subtrees from the left, each smaller than the one before: (height, hash).
    complete: list[tuple[int, bytes]] = []
    for leaf in leaves:
        height, found = 0, _sha256(_LEAF + leaf)
        while complete and complete[-1][0] == height:
            found = _sha256(_NODE + complete.pop()[1] + found)
            height += 1
        complete.append((height, found))
    if not complete:
        return _sha256(b"")
    _, found = complete.pop()
    while complete:
        found = _sha256(_NODE + complete.pop()[1] + found)
    return found


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
