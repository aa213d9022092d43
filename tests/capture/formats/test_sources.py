"""Which format a source has, what SAEs are called, and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from audit.capture.formats.places import short_name
from audit.capture.formats.table import FORMATS
from audit.capture.sae_sources import expand_sources, load_sae, locate_sae
from audit.errors import SaeInvalid
from tests.capture.formats.oracles import LATENTS, WIDTH, decoder, encoder, noise, refused
from tests.capture.formats.test_saelens import old_config, old_weights, written

GEMMA = "gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_71"


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    """And what was found instead."""
    for name in ("notes.txt", "weights.safetensors", "more.safetensors"):
        (tmp_path / name).write_bytes(b"")
    error = refused(tmp_path, "notes.txt", "weights.safetensors", *(form.name for form in FORMATS))
    assert "saelens:RELEASE/SAE_ID" in error.hint
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "an empty folder")
    refused(tmp_path / "notes.txt", "the file notes.txt")
    torch.save({"something": torch.ones(2)}, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "the file other.pt")


def test_two_formats_in_one_folder_are_not_guessed(tmp_path: Path) -> None:
    """Which of them was meant cannot be known."""
    folder = written(tmp_path / "sae", old_config(), old_weights())
    np.savez(folder / "params.npz", W_enc=np.ones(2))
    refused(folder, "SAELens and Gemma Scope")


def test_a_source_that_is_nothing(tmp_path: Path) -> None:
    """Neither a path, a shipped SAE nor an address of the hub."""
    refused(tmp_path / "nowhere", "nothing of that name")
    refused("nowhere", "nothing of that name", "owner/repository:path@revision")
    refused("a/b:../../c", "nothing of that name")


def test_a_hash_in_a_path_is_part_of_it(tmp_path: Path) -> None:
    """A path that exists is taken as it is."""
    folder = written(tmp_path / "run#3", old_config(), old_weights())
    assert load_sae(str(folder)).record.site == "resid_pre.3"
    assert load_sae(f"{folder}#resid_pre.3").record.site == "resid_pre.3"
    assert locate_sae(f"{folder}#resid_pre.3") == folder


def test_own_and_shipped_saes_still_load() -> None:
    """`default` stands for the shipped ones; another site than theirs is refused."""
    main, second = expand_sources(("default",))
    assert load_sae("default").record.name == main
    assert load_sae(f"{second}#resid_post.20").record.site == "resid_post.20"
    with pytest.raises(SaeInvalid, match="default"):
        load_sae("default#resid_post.1")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/my-sae", "my-sae"),
        (f"/data/{GEMMA}", GEMMA),
        ("/data/sae-pythia/layers.5.mlp", "sae-pythia/layers.5.mlp"),
        ("/data/pythia70m_gated/resid_post_layer_3/trainer_0", "pythia70m_gated/resid_post_layer_3/trainer_0"),
        ("/data/release/layer_2/params.npz", "layer_2/params"),
        (f"/data/{GEMMA}/params.npz", f"{GEMMA}/params"),
        ("/home/alice/sae", "sae"),
        ("/home/alice/ae.pt", "ae"),
        ("/home/alice/layer_12", "layer_12"),
        ("/home/alice/layer_12/width_16k/", "layer_12/width_16k"),
        ("/home/alice/aerospace-client/layer_12", "layer_12"),
        ("/home/alice/layer_12_secret/weights", "weights"),
        ("/home/alice/seedling/saes/blocks.5.hook_resid_post", "saes/blocks.5.hook_resid_post"),
        ("/home/gemma-scope-2b-pt-res/private/layer_12", "layer_12"),
        ("/home/gemma-scope-x/gemma-scope-2b-pt-res/layer_12", "gemma-scope-2b-pt-res/layer_12"),
        ("/home/alice/layer_12/../sae", "sae"),
        ("/home/models--a--b/private/of/alice/sae", "sae"),
        (f"/c/models--google--{GEMMA.replace('/', '/snapshots/0123abc/', 1)}", GEMMA),
        ("/data/odd\u0007name", "odd?name"),
    ],
)  # fmt: skip
def test_names_are_short_and_tell_saes_apart(path: str, name: str) -> None:
    """The own name, what a release's layout puts above it, and the release: never where it lies on this machine."""
    assert short_name(Path(path)) == name


_MEASURE = """
import sys
from pathlib import Path
from audit.capture.sae_sources import load_sae

def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM")) * 1024

for source in sys.argv[1:]:
    # Sets the peak back to what is in memory now.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    sae = load_sae(source)
    print(peak() - before)
    del sae
"""


def test_a_large_file_needs_twice_its_size(tmp_path: Path) -> None:
    """Peak memory in each kind of file: its mapped pages and one copy in the canonical layout."""
    latents, width = 24 * 1024, 512
    tensors = {
        "W_enc": torch.zeros(width, latents),
        "W_dec": torch.ones(latents, width),
        "b_enc": torch.zeros(latents),
        "b_dec": torch.zeros(width),
        "threshold": torch.zeros(latents),
    }
    size = sum(tensor.numel() * 4 for tensor in tensors.values())
    config = old_config(architecture="jumprelu", d_in=width, d_sae=latents)
    folders = [written(tmp_path / "sae", config, tensors)]
    for release, name in (("gemma-scope-2b-pt-res/layer_3", "params.npz"), ("resid_post_layer_3", "ae.pt")):
        folders.append(tmp_path / release)
        folders[-1].mkdir(parents=True)
        if name.endswith("npz"):
            np.savez(folders[-1] / name, **{key: tensor.numpy() for key, tensor in tensors.items()})
        else:
            torch.save(tensors, folders[-1] / name)
    command = [sys.executable, "-c", _MEASURE, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks = [int(line) / size for line in done.stdout.split()]
    assert len(peaks) == len(folders)
    assert max(peaks) < 2.2, peaks
    assert min(peaks) > 0.9, peaks


def test_a_transposed_decoder_is_caught_by_its_shape(tmp_path: Path) -> None:
    """Every format fixes the order of both dimensions; only a square decoder could hide a transposition."""
    folder = tmp_path / "layers.3"
    folder.mkdir()
    (folder / "cfg.json").write_text(f'{{"d_in": {WIDTH}, "k": 4, "num_latents": {LATENTS}}}')
    tensors = {
        "encoder.weight": encoder(),
        "encoder.bias": noise(LATENTS),
        "W_dec": decoder().T.contiguous(),
        "b_dec": noise(WIDTH),
    }
    save_file(tensors, folder / "sae.safetensors")
    refused(folder, "w_dec", str((LATENTS, WIDTH)), str((WIDTH, LATENTS)))
