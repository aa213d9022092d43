"""This project's own SAE folders: `sae.safetensors` with a training card beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from audit.capture.encoder import TopK
from audit.capture.formats.canonical import require_tensors
from audit.capture.formats.places import Place, Sites, printable, settle_sites
from audit.capture.formats.weight_files import read_json, read_safetensors, take
from audit.capture.sae import Sae, random_decoder
from audit.digests import digest_file, digest_tree
from audit.errors import SaeInvalid
from audit.records import SaeRecord

CARD_SCHEMA = "affidavit/sae-card/1"
WEIGHTS_FILE = "sae.safetensors"
CARD_FILE = "card.json"
_REQUIRED = frozenset(
    {"schema", "name", "site", "architecture", "latents", "k", "d_model", "licence", "weights_digest", "training"}
)
_NORM_TOLERANCE = 0.02
_MOST_SEED = 2**63 - 1


def is_own(folder: Path) -> bool:
    """Tell whether a folder holds an SAE of this project."""
    return (folder / CARD_FILE).is_file()


def read(place: Place) -> Sae:
    """Read an SAE of this project.

    Raises:
        SaeInvalid: a file is missing, damaged, not finite or does not match the card beside it, or another site was
            stated.
    """
    sae = read_own(place.folder, source=place.source)
    settle_sites(place, Sites(sae.record.site, sae.record.target))
    return sae


def read_own(folder: Path, *, source: str) -> Sae:
    """Read `sae.safetensors` and `card.json`.

    Raises:
        SaeInvalid: a file is missing, damaged, not finite, or does not match the card beside it.
    """
    weights, card_path = folder / WEIGHTS_FILE, folder / CARD_FILE
    if not weights.is_file():
        raise SaeInvalid(
            item=f"SAE {source!r}",
            expected=f"a folder with {WEIGHTS_FILE} and {CARD_FILE}",
            found=f"no {WEIGHTS_FILE} in {folder.name}",
            hint="Give the folder of a trained SAE.",
        )
    card = _read_card(card_path)
    _require_digest(weights, expected=_text(card, "weights_digest"))
    tensors = read_safetensors(weights)
    digest = digest_tree({path.name: digest_file(path) for path in (weights, card_path)})
    return _assemble(tensors, card, digest=digest, source=source)


def _read_card(path: Path) -> dict[str, object]:
    card = read_json(path)
    if not set(card) >= _REQUIRED or card["schema"] != CARD_SCHEMA:
        raise SaeInvalid(
            item=str(path),
            expected=f"schema {CARD_SCHEMA} with the keys {', '.join(sorted(_REQUIRED))}",
            found=printable(f"{str(card.get('schema'))[:60]} with the keys {', '.join(sorted(card))[:400]}"),
            hint="This is not a training card of this version.",
        )
    return card


def _require_digest(path: Path, *, expected: str) -> None:
    found = digest_file(path)
    if found != expected:
        raise SaeInvalid(
            item=str(path),
            expected=expected,
            found=found,
            hint="Weights and card belong together; restore both.",
        )


def _assemble(tensors: dict[str, Tensor], card: dict[str, object], *, digest: str, source: str) -> Sae:
    latents, width, k = (_whole_number(card, key) for key in ("latents", "d_model", "k"))
    shapes = {"w_enc": (latents, width), "b_enc": (latents,), "w_dec": (latents, width), "b_dec": (width,)}
    name = _text(card, "name")
    seed = None
    if card.get("decoder_seed") is not None and "w_dec" not in tensors:
        seed = _whole_number(card, "decoder_seed", most=_MOST_SEED)
    stored = {key: shape for key, shape in shapes.items() if key != "w_dec" or seed is None}
    if set(tensors) != set(stored):
        raise SaeInvalid(
            item=name,
            expected=f"the tensors {', '.join(sorted(stored))}",
            found=printable(", ".join(sorted(tensors))[:400]) or "none",
            hint="Save the SAE in the canonical form.",
        )
    # In memory of its own: a later change of the file must not reach an SAE whose digest was checked.
    tensors = {key: take(tensors, key, item=name, dims=len(shape)) for key, shape in stored.items()}
    require_tensors(name, {key: (tensors[key], shape) for key, shape in stored.items()})
    if seed is not None:
        # Only now: the card's numbers are those of the stored encoder, not of any size that it likes to name.
        tensors["w_dec"] = random_decoder(latents, width, seed=seed)
    if not 0 < k <= latents:
        raise SaeInvalid(item=f"{name}: k", expected=f"1 to {latents}", found=str(k), hint="Mend the card.")
    norms = tensors["w_dec"].norm(dim=1)
    # Within bf16 rounding of 1: then an activation is a length in residual units, as every statistic assumes.
    if not bool(((norms - 1).abs() <= _NORM_TOLERANCE).all()):
        raise SaeInvalid(
            item=f"{name}: w_dec",
            expected=f"rows of norm 1 within {_NORM_TOLERANCE}",
            found=f"norms from {float(norms.min()):.3g} to {float(norms.max()):.3g}",
            hint="Fold the decoder norms into the encoder before saving.",
        )
    training = card["training"] if isinstance(card["training"], dict) else {}
    record = SaeRecord(
        name=name,
        site=_text(card, "site"),
        target=_text(card, "site"),
        architecture=_text(card, "architecture"),
        format="affidavit",
        source=source,
        latents=latents,
        k=k,
        width=width,
        target_width=width,
        digest=digest,
        training_tokens=_whole_number(training, "tokens") if "tokens" in training else None,
        training_updates=_whole_number(training, "updates") if "updates" in training else None,
        training_data_digest=_text(training, "data_digest") if "data_digest" in training else None,
        licence=_text(card, "licence"),
        notes=(),
    )
    return Sae(
        w_enc=tensors["w_enc"],
        b_enc=tensors["b_enc"],
        w_dec=tensors["w_dec"],
        b_dec=tensors["b_dec"],
        rule=TopK(k),
        record=record,
        centre=tensors["b_dec"],
        norms=torch.ones(latents),
    )


def _whole_number(card: Mapping[str, object], key: str, *, most: int | None = None) -> int:
    value = card.get(key)
    if type(value) is not int or value < 0 or (most is not None and value > most):
        expected = "a whole number" if most is None else f"a whole number up to {most}"
        raise SaeInvalid(item=f"the card's {key}", expected=expected, found=repr(value)[:60], hint="Mend the card.")
    return value


def _text(card: Mapping[str, object], key: str) -> str:
    """Return a text of the card, without what a terminal would obey: anyone can have written it."""
    value = card.get(key)
    if not isinstance(value, str):
        raise SaeInvalid(item=f"the card's {key}", expected="a text", found=repr(value)[:60], hint="Mend the card.")
    return printable(value)
