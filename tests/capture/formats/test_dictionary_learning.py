"""Dictionaries of dictionary_learning, saved as its trainer saves them, against its own classes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.capture.encoder import TopK
from audit.capture.sae_sources import load_sae
from audit.errors import SaeInvalid
from tests.capture.formats.oracles import (
    LATENTS,
    WIDTH,
    assert_same,
    dictionary_learning,
    fill,
    refused,
    spoil,
    tokens,
)

K = 6
WHERE = {
    "AutoEncoder": "dictionary",
    "AutoEncoderNew": "dictionary",
    "GatedAutoEncoder": "dictionary",
    "JumpReluAutoEncoder": "dictionary",
    "AutoEncoderTopK": "trainers.top_k",
    "BatchTopKSAE": "trainers.batch_top_k",
    "MatryoshkaBatchTopKSAE": "trainers.matryoshka_batch_top_k",
}
# Those whose tensors no other class has: a file of theirs needs no configuration.
ALONE = ("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE")


def made(kind: str) -> Any:
    """Return a random dictionary of a class."""
    more: dict[str, object] = {"k": K} if "TopK" in kind else {}
    if kind.startswith("Matryoshka"):
        more["group_sizes"] = [40, LATENTS - 40]
    dictionary = fill(getattr(dictionary_learning(WHERE[kind]), kind)(WIDTH, LATENTS, **more))
    if "TopK" in kind:
        dictionary.threshold.fill_(0.6)
    return dictionary


def config(kind: str, **more: object) -> dict[str, object]:
    """Return what the training writes beside the weights."""
    trainer = {
        "dict_class": kind,
        "trainer_class": "any",
        "activation_dim": WIDTH,
        "dict_size": LATENTS,
        "layer": 8,
        "lm_name": "some/model",
        "submodule_name": "resid_post_layer_8",
        **({"k": K} if "TopK" in kind else {}),
        **more,
    }
    return {"trainer": trainer, "buffer": {"ctx_len": 128, "io": "out"}}


def saved(folder: Path, dictionary: Any, about: dict[str, object] | None) -> Path:
    """Save as `train_sae` does."""
    folder.mkdir(parents=True)
    torch.save({name: tensor.cpu() for name, tensor in dictionary.state_dict().items()}, folder / "ae.pt")
    if about is not None:
        (folder / "config.json").write_text(json.dumps(about))
    return folder


def outputs(dictionary: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the class's own activations and reconstruction."""
    with torch.no_grad():
        return dictionary.encode(x), dictionary(x)


@pytest.mark.parametrize("kind", WHERE)
def test_activations_and_output_are_the_classes_own(kind: str, tmp_path: Path) -> None:
    """Every class, with its own layout of the decoder and its own rule for the decoder's bias."""
    theirs = made(kind)
    ours = load_sae(str(saved(tmp_path / "resid_post_layer_8" / "trainer_0", theirs, config(kind))))
    assert_same(ours, tokens(), *outputs(theirs, tokens()))
    assert (ours.record.site, ours.record.target) == ("resid_post.8", "resid_post.8")
    assert ours.record.name == "resid_post_layer_8/trainer_0"
    assert (ours.record.k, isinstance(ours.rule, TopK)) == ((K, True) if kind == "AutoEncoderTopK" else (None, False))


@pytest.mark.parametrize("kind", ALONE)
def test_a_file_alone_says_its_class(kind: str, tmp_path: Path) -> None:
    """Where only one class has such tensors, the file is enough; the site has to be stated."""
    theirs = made(kind)
    path = saved(tmp_path / "mine", theirs, None) / "ae.pt"
    refused(path, "#resid_post.12")
    renamed = path.rename(path.with_name("whatever.pt"))
    assert_same(load_sae(f"{renamed}#resid_post.1"), tokens(), *outputs(theirs, tokens()))
    assert_same(load_sae(f"{renamed.parent}#resid_post.1"), tokens(), *outputs(theirs, tokens()))


def test_the_packages_own_normalisation_gives_our_activations(tmp_path: Path) -> None:
    """`AutoEncoder.from_pretrained` folds decoder norms as well: its activations then are ours."""
    folder = saved(tmp_path / "resid_post_layer_8", made("AutoEncoder"), config("AutoEncoder"))
    theirs = dictionary_learning("dictionary").AutoEncoder.from_pretrained(folder / "ae.pt")
    ours = load_sae(str(folder))
    rows = ours.encode(tokens())
    mine = torch.zeros(len(tokens()), LATENTS)
    mine[rows.token, rows.latent] = rows.activation
    torch.testing.assert_close(mine, outputs(theirs, tokens())[0], rtol=1e-5, atol=1e-5)


def test_classes_with_equal_tensors_need_the_configuration(tmp_path: Path) -> None:
    """TopK and BatchTopK store the same names and fire by other rules."""
    refused(f"{saved(tmp_path / 'mine', made('BatchTopKSAE'), None)}#resid_post.1", "AutoEncoderTopK or BatchTopKSAE")


def test_an_unset_threshold_is_said(tmp_path: Path) -> None:
    """A BatchTopK that was never given its threshold runs as a ReLU in the package, and so here, with a note."""
    theirs = made("BatchTopKSAE")
    theirs.threshold.fill_(-1.0)
    ours = load_sae(str(saved(tmp_path / "sae", theirs, config("BatchTopKSAE"))))
    assert_same(ours, tokens(), *outputs(theirs, tokens()))
    assert any("never estimated" in note for note in ours.record.notes)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (config("GatedAutoEncoder"), ["GatedAutoEncoder", "AutoEncoder"]),
        (config("CrossCoder"), ["CrossCoder"]),
        (config("AutoEncoder", dict_size=LATENTS + 1), ["another shape"]),
        (config("AutoEncoder", activation_dim=WIDTH - 1), ["another shape"]),
        (config("AutoEncoder", layer=3), ["layer 8", "3"]),
        (config("AutoEncoder", submodule_name="mlp_out_layer_8"), ["#resid_post.12"]),
        ({**config("AutoEncoder"), "buffer": {"io": "in_and_out"}}, ["#resid_post.12"]),
        ({"trainer": "lost"}, ["trainer", "a section"]),
    ],
)
def test_configurations_that_contradict_the_weights(about: dict[str, object], words: list[str], tmp_path: Path) -> None:
    """Each is one error."""
    refused(saved(tmp_path / "sae", made("AutoEncoder"), about), *words)


def test_a_stated_pair_of_sites_makes_a_transcoder(tmp_path: Path) -> None:
    """Trained on inputs and outputs of a module, the files cannot say where: the user does."""
    about = {**config("AutoEncoderNew"), "buffer": {"io": "in_and_out"}}
    theirs = made("AutoEncoderNew")
    ours = load_sae(f"{saved(tmp_path / 'sae', theirs, about)}#mlp_in.8->mlp_out.8")
    assert_same(ours, tokens(), *outputs(theirs, tokens()))
    assert ours.record.architecture == "standard, transcoder"


def test_k_must_agree(tmp_path: Path) -> None:
    """It is stored twice."""
    refused(saved(tmp_path / "sae", made("AutoEncoderTopK"), config("AutoEncoderTopK", k=K + 1)), ": k", str(K + 1))


class Command:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    """Nothing of it runs, and the error names what it asked for."""
    state = {**made("AutoEncoder").state_dict(), "note": Command(tmp_path / "ran")}
    folder = tmp_path / "sae"
    folder.mkdir()
    torch.save(state, folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps(config("AutoEncoder")))
    refused(folder, "wants to run code", "posix.system", "safetensors")
    torch.save(made("AutoEncoder"), folder / "ae.pt")
    refused(folder, "wants to run code", "AutoEncoder")
    torch.save(Command(tmp_path / "ran"), tmp_path / "lone.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "lone.pt", "wants to run code")
    assert not (tmp_path / "ran").exists()


def test_files_of_older_versions_of_torch(tmp_path: Path) -> None:
    """They are read too, without mapping them."""
    theirs = made("AutoEncoder")
    folder = saved(tmp_path / "sae", theirs, config("AutoEncoder"))
    torch.save(theirs.state_dict(), folder / "ae.pt", _use_new_zipfile_serialization=False)
    assert_same(load_sae(str(folder)), tokens(), *outputs(theirs, tokens()))


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("how", ["cut", "overwritten"])
def test_damaged_pickles(how: str, *, old: bool, tmp_path: Path) -> None:
    """A damaged file is named."""
    folder = saved(tmp_path / "sae", made("AutoEncoder"), config("AutoEncoder"))
    if old:
        torch.save(made("AutoEncoder").state_dict(), folder / "ae.pt", _use_new_zipfile_serialization=False)
    spoil(folder / "ae.pt", how)
    refused(folder, "ae.pt")


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    """Whatever is damaged in a small pickle, loading it succeeds or says one clear error."""
    folder = saved(tmp_path / "sae", made("AutoEncoder"), config("AutoEncoder"))
    path = folder / "ae.pt"
    for legacy in (False, True):
        torch.save(made("AutoEncoder").state_dict(), path, _use_new_zipfile_serialization=not legacy)
        whole = path.read_bytes()
        places = torch.randint(0, min(len(whole), 1200), (120, 3), generator=torch.Generator().manual_seed(4)).tolist()
        failed = 0
        for at in places:
            damaged = bytearray(whole)
            for place in at:
                damaged[place] ^= 0x5A
            path.write_bytes(damaged)
            try:
                load_sae(str(folder))
            except SaeInvalid:
                failed += 1
        assert failed > 20
