"""Files made to fill the memory, to write to the terminal, or to be changed after they were checked."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from audit.capture.formats import own
from audit.capture.formats.own import CARD_FILE, WEIGHTS_FILE
from audit.capture.formats.weight_files import read_npz, read_torch, take
from audit.capture.sae import random_decoder
from audit.capture.sae_sources import load_sae
from audit.digests import digest_file
from audit.errors import SaeInvalid
from tests.capture.formats.oracles import noise, refused
from tests.capture.formats.test_robustness import WRITERS, weights_of
from tests.capture.formats.test_saelens import old_config, old_weights, written
from tests.capture.test_sae import LATENTS, write_sae
from tests.capture.test_sae import WIDTH as OWN_WIDTH

HOLLOW: dict[str, Callable[[], torch.Tensor]] = {
    "strides of 0": lambda: torch.zeros(1).expand(10**7, 10**6),
    "overlapping rows": lambda: torch.zeros(10**3).as_strided((10**6, 10**3), (0, 1)),
    "sparse": lambda: torch.sparse_coo_tensor(
        torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (10**7, 10**6), check_invariants=True
    ),
    "meta": lambda: torch.empty((10**7, 10**6), device="meta"),
}


@pytest.mark.parametrize("how", HOLLOW)
def test_a_tensor_larger_than_its_file(how: str, tmp_path: Path) -> None:
    """What is not in the file is not made up: 2 kB cannot ask for 40 TB."""
    path = WRITERS["Goodfire"](tmp_path)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "encoder_linear.weight": HOLLOW[how]()}, path)
    assert path.stat().st_size < 10**5
    refused(path, "encoder_linear.weight")


def test_take_asks_for_every_number(tmp_path: Path) -> None:
    """Whoever hands it a tensor; views of what is there stay allowed."""
    whole = noise(6, 4)
    torch.testing.assert_close(take({"a": whole.T[1:]}, "a", item="x", dims=2), whole.T[1:])
    with pytest.raises(SaeInvalid, match="contiguous"):
        take({"a": torch.zeros(1).expand(7)}, "a", item="x")
    torch.save({"a": whole.T[1:], "b": whole}, tmp_path / "views.pt")
    assert set(read_torch(tmp_path / "views.pt")) == {"a", "b"}


def _bomb(path: Path, *, name: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (20 * 2**20,)})
        for _ in range(80):
            member.write(bytes(2**20))
    assert path.stat().st_size < 10**6
    return path


def test_an_archive_that_unpacks_to_far_more(tmp_path: Path) -> None:
    """Packed zeros reach 1,000 times; weights, packed or not, are read."""
    with pytest.raises(SaeInvalid, match="unpacks to at most 100 times"):
        read_npz(_bomb(tmp_path / "params.npz", name="W_enc.npy"))
    with pytest.raises(SaeInvalid, match="unpacks to at most 100 times"):
        read_torch(_bomb(tmp_path / "ae.pt", name="ae/data.pkl"))
    np.savez_compressed(tmp_path / "packed.npz", a=noise(500, 50).numpy(), zeros=np.zeros(2**20))
    assert set(read_npz(tmp_path / "packed.npz")) == {"a", "zeros"}


def _changed_card(folder: Path, **values: object) -> Path:
    path = folder / CARD_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def _frozen(folder: Path) -> Path:
    write_sae(folder, change=lambda tensors: (tensors.pop("w_dec"), None)[1])
    return _changed_card(folder, decoder_seed=5)


def test_a_decoder_is_drawn_only_for_the_stored_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card cannot ask for a decoder of any size."""
    folder = _frozen(tmp_path / "sae")
    expected = random_decoder(LATENTS, OWN_WIDTH, seed=5)
    torch.testing.assert_close(load_sae(str(folder)).w_dec, expected, atol=0, rtol=0)
    refused(_changed_card(folder, decoder_seed=2**64), "decoder_seed")
    monkeypatch.setattr(own, "random_decoder", lambda *_, **__: pytest.fail("drew a decoder"))
    refused(_changed_card(folder, decoder_seed=5, latents=10**8), "w_enc", str((10**8, OWN_WIDTH)))
    refused(_changed_card(folder, latents=LATENTS, d_model=10**8), "w_enc", str((LATENTS, 10**8)))


def test_a_card_nested_too_deeply(tmp_path: Path) -> None:
    """One error, no crash of the parser."""
    folder = write_sae(tmp_path / "sae")
    (folder / CARD_FILE).write_text("[" * 10**5)
    refused(folder, CARD_FILE)


def test_a_card_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    """Nor turn the direction of what is printed; what is no text is refused."""
    escape = "a\u001b[2Jb\u202e"
    texts = {"name": escape, "architecture": escape, "licence": escape, "training": {"data_digest": escape}}
    record = load_sae(str(_changed_card(write_sae(tmp_path / "sae"), **texts))).record
    for text in (record.name, record.architecture, record.licence, record.training_data_digest):
        assert text == "a?[2Jb?"
    for key in ("name", "site", "licence", "weights_digest"):
        refused(_changed_card(write_sae(tmp_path / key), **{key: ["x"]}), f"the card's {key}")


def test_weights_are_not_those_of_a_later_file(tmp_path: Path) -> None:
    """What was checked against the digest stays, whatever is written to the file."""
    folder = write_sae(tmp_path / "sae")
    stored = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    sae = load_sae(str(folder))
    path = folder / WEIGHTS_FILE
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.write(bytes(size))
    for name, tensor in stored.items():
        torch.testing.assert_close(getattr(sae, name), tensor, atol=0, rtol=0)


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    """As the shipped ones are stored; whole numbers are no weights."""
    folder = write_sae(tmp_path / "sae")
    for dtype in (torch.bfloat16, torch.float16):
        halved = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
        save_file(halved, folder / WEIGHTS_FILE)
        sae = load_sae(str(_changed_card(folder, weights_digest=digest_file(folder / WEIGHTS_FILE))))
        torch.testing.assert_close(sae.w_enc, halved["w_enc"].float(), atol=0, rtol=0)
    save_file({name: tensor.int() for name, tensor in halved.items()}, folder / WEIGHTS_FILE)
    refused(_changed_card(folder, weights_digest=digest_file(folder / WEIGHTS_FILE)), "floating point")


@pytest.mark.parametrize("settings", [{}, {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": True}])
def test_a_decoder_whose_norm_overflows(settings: dict[str, object], tmp_path: Path) -> None:
    """Finite weights of 1e30 have an infinite norm: they are refused, not folded to zero."""
    weights = old_weights()
    weights["W_dec"][3] = 1e30
    folder = written(tmp_path / "sae", old_config(**settings), weights)
    refused(folder, "w_enc" if settings else "w_dec's norms", "NaN or infinity")


def test_a_gain_that_overflows(tmp_path: Path) -> None:
    """Finite gains and finite norms whose product is not."""
    folder = WRITERS["SAELens gated"](tmp_path)
    path = weights_of(folder)
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    weights["r_mag"][:] = 80.0
    weights["W_dec"] *= 1e10 / weights["W_dec"].norm(dim=1, keepdim=True)
    save_file(weights, path)
    refused(folder, "folded", "NaN or infinity")
