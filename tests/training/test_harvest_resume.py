"""A harvest that was stopped goes on where it stood; one that is finished is not run again."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from audit.capture.model import LoadedModel
from audit.errors import TooLarge
from audit.training.corpus import Corpus
from audit.training.harvest import Activations
from tests.training.conftest import RECIPE, files, take

pytestmark = pytest.mark.usefixtures("small_parts")

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - the shape of shutil.disk_usage


def test_a_finished_harvest_is_not_run_again(model: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    """The second call returns the first one's record and changes no file."""
    first = take(model, corpus, tmp_path)
    before = files(tmp_path)
    assert take(model, corpus, tmp_path) == first
    assert files(tmp_path) == before


def forget_the_end(folder: Path) -> None:
    """Leave the folder as a run that was killed after its last part: the record comes after all parts."""
    index = json.loads((folder / "harvest.json").read_text())
    del index["record"]
    (folder / "harvest.json").write_text(json.dumps(index))


@pytest.mark.parametrize("lost", ["*", "*.meta.npy"])
def test_a_killed_harvest_computes_the_missing_part_only(
    model: LoadedModel, corpus: Corpus, tmp_path: Path, lost: str
) -> None:
    """The last part, missing whole or by half, comes back bit for bit; the other parts' files are not touched."""
    record = take(model, corpus, tmp_path)
    before = files(tmp_path)
    forget_the_end(tmp_path)
    last = max(tmp_path.glob("train-*.meta.npy")).name.split(".")[0]
    assert last != "train-00000"
    for path in tmp_path.glob(f"{last}{lost}"):
        path.unlink()
    (tmp_path / f".{last}.rows.npy.unfinished").write_bytes(b"half")
    assert take(model, corpus, tmp_path) == record
    after = files(tmp_path)
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    changed = {name for name in after if after[name][0] != before[name][0]}
    assert changed == {f"{last}.rows.npy", f"{last}.meta.npy", "harvest.json"}


def test_a_finished_harvest_that_lost_a_part_is_not_used_as_it_is(
    model: LoadedModel, corpus: Corpus, tmp_path: Path
) -> None:
    """A record that says 9,000 tokens beside fewer rows is noticed: the part is computed again."""
    record = take(model, corpus, tmp_path)
    last = max(tmp_path.glob("train-*.meta.npy")).name.split(".")[0]
    for path in tmp_path.glob(f"{last}*"):
        path.unlink()
    take(model, corpus, tmp_path)
    assert len(Activations(tmp_path, "train")) == record.tokens


def test_what_is_on_disk_needs_no_more_room(
    model: LoadedModel, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed harvest asks for the missing bytes only."""
    take(model, corpus, tmp_path)
    forget_the_end(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 100_000))
    assert take(model, corpus, tmp_path).tokens >= RECIPE.tokens
    with pytest.raises(TooLarge):
        take(model, corpus, tmp_path / "new")
