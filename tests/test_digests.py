"""Digests cover names and contents, and canonical JSON has one form."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.digests import canonical_json, digest_bytes, digest_each, digest_file, digest_folder, digest_tree
from audit.errors import EvidenceError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_key_order_does_not_matter(value: dict[str, object]) -> None:
    """Two dictionaries with equal items serialise alike."""
    assert canonical_json(value) == canonical_json(dict(reversed(list(value.items()))))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    """Evidence has no NaN; the error says where."""
    with pytest.raises(EvidenceError) as caught:
        canonical_json({"a": [1.0, {"b": bad}]})
    assert "$.a[1].b" in caught.value.item


def test_a_renamed_file_changes_the_tree(tmp_path: Path) -> None:
    """The name is part of what is digested."""
    (tmp_path / "a").write_text("x")
    before = digest_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest_folder(tmp_path) != before


def test_the_tree_digest_ignores_listing_order() -> None:
    """Sorted by name."""
    assert digest_tree({"a": "1", "b": "2"}) == digest_tree({"b": "2", "a": "1"})


def test_many_files_are_digested_in_their_order_beside_other_work(tmp_path: Path) -> None:
    """Longer ones are begun first, an unreadable one is told in its place, and the caller's errors pass."""
    contents = [b"", b"x" * 9_000_000, b"short", b"y" * 20]
    paths = [tmp_path / f"{n}.bin" for n in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    done: list[str] = []
    found = digest_each([*paths, tmp_path / "missing"], meanwhile=lambda: done.append("work"))
    assert found[:-1] == [digest_bytes(content) for content in contents] == [digest_file(path) for path in paths]
    assert isinstance(found[-1], FileNotFoundError)
    assert done == ["work"]

    def fails() -> None:
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        digest_each(paths, meanwhile=fails)
