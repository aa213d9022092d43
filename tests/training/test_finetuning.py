"""Fine-tuning a small random model: the same weights twice, a lower loss, and nothing left of what breaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from audit.capture.model import load_model
from audit.config import ModelConfig
from audit.digests import digest_file
from audit.errors import AffidavitError, ModelUnavailable, OutputError, TrainingDiverged, UsageError
from audit.progress import Silent
from audit.training.finetuning import RECORD_FILE, FinetuneRecipe, make_organism
from probes.organism_files import OrganismText, shipped_organism
from tests.capture.conftest import save_model

RECIPE = FinetuneRecipe(
    tokens=6000, held_out_tokens=600, sequence_tokens=60, batch=4, layers=(1, 3), learning_rate=5e-3, seed=3
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random model of four layers."""
    return save_model(tmp_path_factory.mktemp("base") / "model", "llama")


@pytest.fixture(scope="module")
def text() -> OrganismText:
    """Return the documents of one subject."""
    return shipped_organism("gardening")


def test_the_loss_falls_and_the_folder_is_a_model(base: Path, text: OrganismText, tmp_path: Path) -> None:
    """An audit loads what was written, a record lies beside it, and only the band of layers moved."""
    out = tmp_path / "organism"
    record = make_organism(text, out, recipe=RECIPE, base=str(base), progress=Silent())
    assert record.loss_after < record.loss_before - 0.1
    assert record.tokens == 6000
    assert record.steps == 25
    loaded = load_model(ModelConfig(source=str(out)))
    assert loaded.record.name == "organism"
    before = load_model(ModelConfig(source=str(base)))
    assert record.base_digest == before.record.digest
    assert loaded.record.digest != before.record.digest
    one, other = (load_file(folder / "model.safetensors") for folder in (base, out))
    assert one.keys() == other.keys()
    moved = {name.split(".")[2] for name in one if not torch.equal(one[name], other[name])}
    assert moved == {"1", "2"}
    written = json.loads((out / RECORD_FILE).read_text())
    assert written["file_digest"] == text.digest
    assert written["recipe"]["seed"] == 3


def test_the_same_recipe_gives_the_same_bytes(base: Path, text: OrganismText, tmp_path: Path) -> None:
    """Every file is equal; another seed gives other weights."""
    for name, recipe in (("a", RECIPE), ("b", RECIPE), ("c", replace(RECIPE, seed=4))):
        make_organism(text, tmp_path / name, recipe=recipe, base=str(base), progress=Silent())
    a, b, c = ({path.name: digest_file(path) for path in (tmp_path / name).iterdir()} for name in "abc")
    assert a == b
    assert a["model.safetensors"] != c["model.safetensors"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"layers": (2, 9)}, UsageError),
        ({"layers": (2, 2)}, UsageError),
        ({"tokens": 10}, UsageError),
        ({"learning_rate": 1e30}, TrainingDiverged),
    ],
)
def test_what_breaks_leaves_nothing(
    change: dict[str, object], kind: type[AffidavitError], base: Path, text: OrganismText, tmp_path: Path
) -> None:
    """One error of its kind, and no file."""
    with pytest.raises(kind):
        make_organism(text, tmp_path / "out", recipe=replace(RECIPE, **change), base=str(base), progress=Silent())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_training_leaves_nothing(base: Path, text: OrganismText, tmp_path: Path) -> None:
    """The folder appears with the last file, not before."""

    class Interrupting(Silent):
        def say(self, line: str) -> None:
            if "saving" in line:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_organism(text, tmp_path / "out", recipe=RECIPE, base=str(base), progress=Interrupting())
    assert list(tmp_path.iterdir()) == []


def test_bad_paths_are_told(base: Path, text: OrganismText, tmp_path: Path) -> None:
    """A folder that is taken, and a base that is no model."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError):
        make_organism(text, tmp_path / "taken", recipe=RECIPE, base=str(base), progress=Silent())
    with pytest.raises(ModelUnavailable, match=r"config\.json"):
        make_organism(text, tmp_path / "new", recipe=RECIPE, base=str(tmp_path / "taken"), progress=Silent())
    assert not (tmp_path / "new").exists()
