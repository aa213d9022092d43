"""`affidavit sae train`: from a model and a text to a folder with weights and card, in one step or not at all."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from audit.capture.formats.own import CARD_FILE, WEIGHTS_FILE
from audit.capture.model import LoadedModel
from audit.capture.sae_sources import load_sae
from audit.capture.sites import parse_site, read_site
from audit.digests import digest_file
from audit.training.corpus import load_corpus
from audit.training.sequences import SequenceMaker
from tests.training.conftest import TRAINING, Command, train_arguments

CHECKPOINT = "checkpoint.safetensors"
STEPS = 600
# Measured: 0.013; an untrained one of this shape has above 0.5.
FVU_BOUND = 0.04


@pytest.fixture
def card(trained: Path) -> dict[str, Any]:
    """Return the trained SAE's card."""
    loaded: dict[str, Any] = json.loads((trained / CARD_FILE).read_text())
    return loaded


def test_a_folder_with_weights_and_card_is_all_that_is_left(trained: Path) -> None:
    """No checkpoint, no activations, no lock."""
    assert sorted(p.name for p in trained.iterdir()) == [CARD_FILE, WEIGHTS_FILE]
    assert [p.name for p in trained.parent.iterdir()] == [trained.name]


def test_held_out_text_is_reconstructed(trained: Path, model: LoadedModel, corpus_path: Path) -> None:
    """On documents that were never trained on, read here from the model, the loaded SAE leaves less than BOUND."""
    sae = load_sae(str(trained))
    held = load_corpus(corpus_path, seed=5).split(held_out=True)
    site = parse_site(sae.record.site, layers=len(model.layers))
    rows = []
    for sequence in SequenceMaker(model.tokenizer, chat_share=0.25, seed=9).make(held):
        ids = torch.tensor([sequence.ids])
        residual = read_site(model.model, model.layers, site, {"input_ids": ids, "attention_mask": ids * 0 + 1})
        rows.append(residual[0][torch.tensor(sequence.content)])
    residual = torch.cat(rows)
    output = sae.decode(sae.encode(residual), residual)
    fvu = float((output - residual).pow(2).sum() / (residual - residual.mean(0)).pow(2).sum())
    assert fvu < FVU_BOUND


def test_the_card_says_what_was_done(card: dict[str, Any], trained: Path, corpus_path: Path) -> None:
    """Data by digest, tokens, steps, seed, hyperparameters and versions; the weights by their digest."""
    training, recipe = card["training"], card["training"]["recipe"]
    assert card["weights_digest"] == digest_file(trained / WEIGHTS_FILE)
    assert (training["data"], training["data_digest"]) == (corpus_path.name, digest_file(corpus_path))
    assert (card["site"], card["latents"], card["k"], card["d_model"]) == ("resid_post.2", 128, 8, 32)
    assert training["harvest"]["tokens"] == TRAINING["--tokens"]
    assert training["tokens"] == training["harvested"]["tokens"] >= TRAINING["--tokens"]
    assert (training["steps"], training["updates"]) == (STEPS, TRAINING["--updates"])
    assert (recipe["seed"], recipe["batch"], recipe["learning_rate"]) == (0, 256, 0.005)
    assert (recipe["latents"], recipe["k"], recipe["updates"]) == (128, 8, TRAINING["--updates"])
    assert training["harvest"]["seed"] == 0
    assert training["versions"] == {
        "torch": version("torch"),
        "transformers": version("transformers"),
        "python": platform.python_version(),
    }
    assert training["corpus_sources"] == [{"source": "made", "licence": "CC0-1.0"}]
    assert card["decoder_seed"] is None
    assert load_sae(str(trained)).record.training_tokens == training["tokens"]


def test_the_curve_falls_to_its_last_step(card: dict[str, Any]) -> None:
    """A point every 200 steps; both held-out formats are watched."""
    curve = card["training"]["curve"]
    assert [point["step"] for point in curve] == [200, 400, STEPS]
    for name in ("fvu_plain", "fvu_chat"):
        assert curve[-1][name] < curve[0][name]
        assert curve[-1][name] < FVU_BOUND


def test_the_command_prints_folder_digest_and_next_step(
    affidavit: Command, model_folder: Path, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Name, licence and a frozen decoder reach the card; nothing on stderr when nobody watches."""
    changes = {"updates": 2560, "name": "mine", "licence": "MIT", "freeze_decoder": 4}
    assert affidavit(*train_arguments(model_folder, corpus_path, tmp_path / "sae", **changes)) == 0
    told = capsys.readouterr()
    made = json.loads((tmp_path / "sae" / CARD_FILE).read_text())
    assert str(tmp_path / "sae") in told.out
    assert made["weights_digest"] in told.out
    assert told.err == ""
    assert (made["name"], made["licence"], made["decoder_seed"]) == ("mine", "MIT", 4)
    assert load_sae(str(tmp_path / "sae")).record.name == "mine"


def read_step(checkpoint: Path) -> int:
    """Return the step of a checkpoint."""
    with safe_open(checkpoint, framework="pt") as stored:
        return int(stored.metadata()["step"])


def kill_in_training(arguments: list[str], checkpoint: Path) -> None:
    """Start the command in a process of its own and kill it when its first checkpoint is there."""
    # As many threads as here: sums over threads must fall in the same order.
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-m", "audit", *arguments], env=environment)
    try:
        deadline = time.monotonic() + 300
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_training_resumes_and_ends_with_the_same_bytes(
    *,
    affidavit: Command,
    trained: Path,
    model_folder: Path,
    corpus_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGKILL in the middle leaves nothing under the final name; the same command again gives the same weights."""
    out = tmp_path / "sae"
    arguments = train_arguments(model_folder, corpus_path, out)
    kill_in_training(arguments, tmp_path / ".sae.unfinished" / CHECKPOINT)
    assert not out.exists()
    assert not (tmp_path / ".sae.unfinished" / WEIGHTS_FILE).exists()
    step = read_step(tmp_path / ".sae.unfinished" / CHECKPOINT)
    assert 0 < step < STEPS
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert affidavit(*arguments) == 0
    assert f"resuming at step {step}" in capsys.readouterr().err
    assert (out / WEIGHTS_FILE).read_bytes() == (trained / WEIGHTS_FILE).read_bytes()
    assert (out / CARD_FILE).read_bytes() == (trained / CARD_FILE).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["sae"]


def test_two_seeds_share_one_harvest(
    affidavit: Command, trained: Path, model_folder: Path, corpus_path: Path, tmp_path: Path
) -> None:
    """The second training reads the first one's activations, which stay; kept ones give the same weights as own."""
    store = tmp_path / "activations"
    times = []
    for seed in (0, 1):
        out = tmp_path / f"sae-{seed}"
        updates = TRAINING["--updates"] if seed == 0 else 2560
        changes = {"seed": seed, "activations": store, "updates": updates}
        assert affidavit(*train_arguments(model_folder, corpus_path, out, **changes)) == 0
        times.append({path.name: path.stat().st_mtime_ns for path in store.iterdir()})
    assert times[0] == times[1]
    assert any(name.endswith(".rows.npy") for name in times[0])
    first, second = (load_sae(str(tmp_path / f"sae-{seed}")) for seed in (0, 1))
    assert not torch.equal(first.w_dec, second.w_dec)
    assert (tmp_path / "sae-0" / WEIGHTS_FILE).read_bytes() == (trained / WEIGHTS_FILE).read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"site": "resid_post.4"}, ["resid_post.4", "from 0 to 3"]),
        ({"site": "mlp.1"}, ["mlp.1", "resid_post"]),
        ({"k": 129}, ["--k", "1 to 128", "129"]),
        ({"tokens": 1279}, ["--tokens", "1,280", "1,279"]),
        ({"tokens": 10**8}, ["100,000,000 tokens", "at most"]),
        ({"register_limit": "dictionary"}, ["--register-limit", "NAME=SHARE"]),
        ({"register_limit": "dictionary=2"}, ["--register-limit", "dictionary=2"]),
    ],
)
def test_what_cannot_work_is_told_with_exit_code_2(
    *,
    affidavit: Command,
    model_folder: Path,
    corpus_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    words: list[str],
) -> None:
    """The message says what, expected, found and what to do; no folder carries the final name."""
    assert affidavit(*train_arguments(model_folder, corpus_path, tmp_path / "sae", **changes)) == 2
    told = capsys.readouterr().err
    for word in ("expected:", "found:", "to do:", *words):
        assert word in told
    assert not (tmp_path / "sae").exists()


def test_a_folder_that_exists_is_never_written_to(
    affidavit: Command,
    model_folder: Path,
    corpus_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 at once, and the file in it stays alone."""
    (tmp_path / "sae").mkdir()
    (tmp_path / "sae" / "notes.txt").write_text("mine")
    assert affidavit(*train_arguments(model_folder, corpus_path, tmp_path / "sae")) == 2
    told = capsys.readouterr().err
    for word in ("expected:", "found:", "to do:", "other files"):
        assert word in told
    assert [p.name for p in tmp_path.rglob("*")] == ["sae", "notes.txt"]


def test_an_unfinished_folder_of_another_training_is_refused(
    affidavit: Command,
    model_folder: Path,
    corpus_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Activations of another recipe under the same --out are not used and not deleted."""
    folder = tmp_path / ".sae.unfinished" / "activations"
    folder.mkdir(parents=True)
    (folder / "harvest.json").write_text(json.dumps({"key": "sha256:other"}))
    np.save(folder / "train-00000.rows.npy", np.zeros((3, 32), dtype=np.uint16))
    assert affidavit(*train_arguments(model_folder, corpus_path, tmp_path / "sae")) == 2
    assert "activations of another" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["harvest.json", "train-00000.rows.npy"]


def test_weights_that_cannot_be_written_are_told(
    affidavit: Command, model_folder: Path, corpus_path: Path, tmp_path: Path
) -> None:
    """What safetensors says of the disk becomes an error with exit code 2, and no folder has the final name."""
    (tmp_path / ".sae.unfinished" / f".{WEIGHTS_FILE}.unfinished").mkdir(parents=True)
    assert affidavit(*train_arguments(model_folder, corpus_path, tmp_path / "sae", updates=256)) == 2
    assert not (tmp_path / "sae").exists()


def test_a_damaged_checkpoint_is_told(
    affidavit: Command, model_folder: Path, corpus_path: Path, tmp_path: Path
) -> None:
    """A file cut short by the disk under the checkpoint's own name is neither resumed nor a crash."""
    (tmp_path / ".sae.unfinished").mkdir()
    (tmp_path / ".sae.unfinished" / CHECKPOINT).write_bytes(b"half")
    assert affidavit(*train_arguments(model_folder, corpus_path, tmp_path / "sae", updates=256)) in {0, 2}
