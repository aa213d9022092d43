"""The tree of RFC 6962: published vectors, and the standard's own recursive definition on any list."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.signing.merkle import tree_root

# The leaves and roots with which implementations of Certificate Transparency are tested.
LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    """Trees of one to eight leaves."""
    assert tree_root(bytes.fromhex(leaf) for leaf in LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_tree_of_nothing_is_the_hash_of_nothing() -> None:
    """RFC 6962, section 2.1."""
    assert tree_root([]) == hashlib.sha256(b"").digest()


def by_definition(leaves: list[bytes]) -> bytes:
    """Return MTH(D) as section 2.1 writes it down."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = by_definition(leaves[:split]), by_definition(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_any_list_gives_the_root_of_the_definition(leaves: list[bytes]) -> None:
    """Built from the left, the same tree."""
    assert tree_root(leaves) == by_definition(leaves)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_any_change_of_the_list_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    """A leaf changed, taken out, added, or two leaves swapped."""
    root = tree_root(leaves)
    place = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves[:place], leaves[place] + b"x", *leaves[place + 1 :]]
    swapped = list(leaves)
    swapped[place], swapped[other] = swapped[other], swapped[place]
    for attempt in (changed, leaves[:place] + leaves[place + 1 :], [*leaves, b""], [*leaves, leaves[-1]]):
        assert tree_root(attempt) != root
    assert (tree_root(swapped) == root) == (swapped == leaves)


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    """The two hashes below a root, joined, are a leaf of another tree only if prefixes are ignored."""
    inner = b"".join(hashlib.sha256(b"\x00" + leaf).digest() for leaf in (b"a", b"b"))
    assert tree_root([inner]) != tree_root([b"a", b"b"])
