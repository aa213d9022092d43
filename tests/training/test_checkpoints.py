"""Checkpoints: a resumed training is the same training, and nothing else is ever resumed."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from audit.errors import OutputError
from tests.training.conftest import BATCH, TOPK, Planted, finish

KEY = "sha256:key"


@pytest.mark.parametrize("decoder_seed", [None, 7])
def test_a_resumed_training_is_bit_for_bit_the_same(planted: Planted, tmp_path: Path, decoder_seed: int | None) -> None:
    """Stopped at step 41 and loaded elsewhere, it ends with weights, moments and curve of one that never stopped."""
    recipe = replace(TOPK, k=1, updates=90 * BATCH, dead_after=1024, decoder_seed=decoder_seed)
    whole = planted.trainer(recipe)
    whole.watch(finish(whole, until=30))
    whole.watch(finish(whole))
    stopped = planted.trainer(recipe)
    stopped.watch(finish(stopped, until=30))
    finish(stopped, until=41)
    stopped.save(tmp_path / "checkpoint", key=KEY)
    resumed = planted.trainer(recipe)
    assert resumed.resume(tmp_path / "checkpoint", key=KEY)
    assert resumed.step == 41
    resumed.watch(finish(resumed))
    assert resumed.curve == whole.curve
    assert whole.curve[-1].dead > 0
    for trainer in (whole, resumed):
        trainer.save(tmp_path / f"{id(trainer)}", key=KEY)
    first, second = (load_file(tmp_path / f"{id(trainer)}") for trainer in (whole, resumed))
    assert first.keys() == second.keys()
    assert {name for name in first if not torch.equal(first[name], second[name])} == set()
    exported = whole.exported()
    assert all(torch.equal(tensor, resumed.exported()[name]) for name, tensor in exported.items())


def test_a_checkpoint_of_another_training_is_refused(planted: Planted, tmp_path: Path) -> None:
    """Its weights are not taken; where there is none, nothing is resumed."""
    trainer = planted.trainer(TOPK)
    assert not trainer.resume(tmp_path / "checkpoint", key=KEY)
    finish(trainer, until=3)
    trainer.save(tmp_path / "checkpoint", key=KEY)
    other = planted.trainer(TOPK)
    before = other.exported()
    with pytest.raises(OutputError, match="checkpoint"):
        other.resume(tmp_path / "checkpoint", key="sha256:other")
    assert other.step == 0
    assert all(torch.equal(tensor, other.exported()[name]) for name, tensor in before.items())


def test_half_a_checkpoint_is_never_loaded(planted: Planted, tmp_path: Path) -> None:
    """What an interrupted write leaves has another name: nothing is resumed, and the next checkpoint replaces it."""
    trainer = planted.trainer(TOPK)
    finish(trainer, until=3)
    path, unfinished = tmp_path / "checkpoint", tmp_path / ".checkpoint.unfinished"
    trainer.save(path, key=KEY)
    whole = path.read_bytes()
    path.unlink()
    unfinished.write_bytes(whole[: len(whole) // 2])
    again = planted.trainer(TOPK)
    assert not again.resume(path, key=KEY)
    assert again.step == 0
    finish(again, until=3)
    again.save(path, key=KEY)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
    with safe_open(path, framework="pt") as stored:
        assert stored.metadata()["step"] == "3"


def test_a_checkpoint_that_cannot_be_written_is_told(planted: Planted, tmp_path: Path) -> None:
    """Neither a wrong path nor a full disk (here a limit on file sizes) is silent, and the last good one stays."""
    trainer = planted.trainer(TOPK)
    with pytest.raises(OutputError, match="checkpoint"):
        trainer.save(tmp_path / "none" / "checkpoint", key=KEY)
    trainer.save(tmp_path / "checkpoint", key=KEY)
    before = (tmp_path / "checkpoint").read_bytes()
    trainer.advance()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OutputError, match="checkpoint"):
            trainer.save(tmp_path / "checkpoint", key=KEY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
    assert (tmp_path / "checkpoint").read_bytes() == before
