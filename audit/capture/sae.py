"""Sparse autoencoders in one canonical form: TopK over the residual stream, float32, decoder rows of norm 1."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from audit.config import DEFAULT_SOURCE
from audit.digests import digest_bytes, digest_file, digest_tree
from audit.errors import SaeInvalid, ShapeMismatch
from audit.records import ModelRecord, SaeRecord

CARD_SCHEMA = "affidavit/sae-card/1"
WEIGHTS_FILE = "sae.safetensors"
CARD_FILE = "card.json"
MAIN = "smollm2-135m-instruct.resid_post.15"
SHIPPED = (MAIN, "smollm2-135m-instruct.resid_post.20")
_RANDOM_SUFFIX = "random-directions"
_BLOCK_TOKENS = 1024
_NORM_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class SparseRows:
    """The latents that fire: three aligned one-dimensional arrays ordered by (token, latent)."""

    token: Tensor
    latent: Tensor
    activation: Tensor


@dataclass(frozen=True, slots=True)
class Sae:
    """A TopK sparse autoencoder (Gao et al. 2024, arXiv 2406.04093).

    a = relu(top_k((x - b_dec) W_enc^T + b_enc)),  x_hat = a W_dec + b_dec.

    Args:
        w_enc: (latents, d_model) float32.
        b_enc: (latents,) float32.
        w_dec: (latents, d_model) float32, rows of norm 1: an activation is a length in residual units.
        b_dec: (d_model,) float32.
        k: how many latents may fire at a position.
    """

    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor
    k: int
    record: SaeRecord

    def to(self, device: torch.device) -> Sae:
        """Return the SAE with its weights on a device."""
        weights = {name: getattr(self, name).to(device) for name in ("w_enc", "b_enc", "w_dec", "b_dec")}
        return Sae(**weights, k=self.k, record=self.record)

    def encode(self, residual: Tensor) -> SparseRows:
        """Return the latents that fire at each token.

        Args:
            residual: (tokens, d_model) float32, as the model computed it.

        Returns:
            Rows ordered by (token, latent). Nothing is dropped: top-k and the ReLU are the only cuts. Encoding runs
            in blocks of tokens, so the dense pre-activations never exceed 1,024 rows.

        Raises:
            ShapeMismatch: d_model differs from the SAE's input width.
        """
        _require_shape(residual, self)
        blocks = list(self._encode_blocks(residual))
        if not blocks:
            empty = torch.zeros(0, dtype=torch.int64)
            return SparseRows(empty, empty, torch.zeros(0))
        return SparseRows(
            token=torch.cat([block.token for block in blocks]),
            latent=torch.cat([block.latent for block in blocks]),
            activation=torch.cat([block.activation for block in blocks]),
        )

    def decode(self, rows: SparseRows, tokens: int) -> Tensor:
        """Return the reconstruction x_hat, (tokens, d_model) float32, from sparse rows."""
        offsets = torch.zeros(tokens + 1, dtype=torch.int64, device=rows.token.device)
        offsets[1:] = torch.bincount(rows.token, minlength=tokens).cumsum(0)
        summed = functional.embedding_bag(
            rows.latent,
            self.w_dec,
            offsets,
            mode="sum",
            per_sample_weights=rows.activation,
            include_last_offset=True,
        )
        return summed + self.b_dec

    def _encode_blocks(self, residual: Tensor) -> Iterator[SparseRows]:
        for start in range(0, residual.shape[0], _BLOCK_TOKENS):
            block = residual[start : start + _BLOCK_TOKENS].float()
            pre = torch.addmm(self.b_enc, block - self.b_dec, self.w_enc.T)
            values, latents = pre.topk(self.k, dim=1, sorted=False)
            # Sorted by latent: the order of equal rows must not depend on the kernel.
            latents, order = latents.sort(dim=1)
            values = values.gather(1, order)
            token = torch.arange(start, start + block.shape[0], device=block.device)[:, None].expand_as(latents)
            fires = values > 0
            yield SparseRows(token=token[fires], latent=latents[fires], activation=values[fires])


def expand_sources(sources: Iterable[str]) -> tuple[str, ...]:
    """Return the SAEs that sources name: `default` stands for the shipped instruments, main one first."""
    return tuple(name for source in sources for name in (SHIPPED if source == DEFAULT_SOURCE else (source,)))


def locate_sae(source: str) -> Path:
    """Return the folder of an SAE: `default`, the name of a shipped one, or a path."""
    name = MAIN if source == DEFAULT_SOURCE else source
    shipped = Path(str(files("audit.capture"))) / "saes" / name
    return shipped if "/" not in name and shipped.is_dir() else Path(source).expanduser()


def load_sae(source: str) -> Sae:
    """Load an SAE: a folder, the name of a shipped one, or `default` for the main one of those.

    Raises:
        SaeInvalid: files are missing, damaged, not finite, or do not match the card beside them.
    """
    folder = locate_sae(source)
    weights, card_path = folder / WEIGHTS_FILE, folder / CARD_FILE
    for path in (weights, card_path):
        if not path.is_file():
            raise SaeInvalid(
                item=f"SAE {source!r}",
                expected=f"a folder with {WEIGHTS_FILE} and {CARD_FILE}",
                found=f"no {path.name} in {folder.name}",
                hint="Give the folder of a trained SAE.",
            )
    card = _read_card(card_path)
    tensors = _read_tensors(weights, expected_digest=str(card["weights_digest"]))
    return _assemble(tensors, card, digest=digest_tree({p.name: digest_file(p) for p in (weights, card_path)}))


def require_width(sae: Sae, model: ModelRecord) -> None:
    """Refuse an SAE of another model.

    Raises:
        ShapeMismatch: the residual stream has another width than the SAE reads.
    """
    if sae.record.width != model.width:
        raise ShapeMismatch(
            item=f"SAE {sae.record.name} on {model.name}",
            expected=f"a residual stream of width {sae.record.width}",
            found=f"width {model.width}",
            hint="This SAE belongs to another model.",
        )


def random_directions(like: Sae, *, seed: int) -> Sae:
    """Return an untrained SAE of equal shape and sparsity: random unit directions, tied encoder, the trained centre.

    The control for every claim of the trained one: whatever random directions show as well is not the SAE's merit
    (Heap et al. 2025, arXiv 2501.17727). Regenerated from the seed, never stored.
    """
    directions = random_decoder(*like.w_enc.shape, seed=seed).to(like.w_enc.device)
    identity = digest_bytes(
        f"random-directions:{tuple(like.w_enc.shape)}:{like.k}:{seed}:{like.record.digest}".encode()
    )
    record = SaeRecord(
        name=f"{like.record.name}.{_RANDOM_SUFFIX}",
        site=like.record.site,
        architecture="topk, untrained random unit directions",
        latents=like.record.latents,
        k=like.k,
        width=like.record.width,
        digest=identity,
        training_tokens=0,
        training_updates=0,
        training_data_digest="none",
        licence="none",
    )
    zeros = torch.zeros_like(like.b_enc)
    return Sae(w_enc=directions, b_enc=zeros, w_dec=directions, b_dec=like.b_dec, k=like.k, record=record)


def random_decoder(latents: int, width: int, *, seed: int) -> Tensor:
    """Return (latents, width) float32 unit rows, uniform on the sphere; equal for equal seeds on every machine."""
    directions: Tensor = torch.randn((latents, width), generator=torch.Generator().manual_seed(seed))
    return functional.normalize(directions, dim=1)


def _read_card(path: Path) -> dict[str, object]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SaeInvalid(item=str(path), expected="a JSON card", found=str(error), hint="Restore the file.") from error
    required = {
        "schema", "name", "site", "architecture", "latents", "k", "d_model", "licence", "weights_digest", "training"
    }  # fmt: skip
    if not isinstance(card, dict) or not required <= set(card) or card["schema"] != CARD_SCHEMA:
        raise SaeInvalid(
            item=str(path),
            expected=f"schema {CARD_SCHEMA} with the keys {', '.join(sorted(required))}",
            found=", ".join(sorted(card)) if isinstance(card, dict) else type(card).__name__,
            hint="This is not a training card of this version.",
        )
    return card


def _read_tensors(path: Path, *, expected_digest: str) -> dict[str, Tensor]:
    found = digest_file(path)
    if found != expected_digest:
        raise SaeInvalid(
            item=str(path),
            expected=expected_digest,
            found=found,
            hint="Weights and card belong together; restore both.",
        )
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise SaeInvalid(item=str(path), expected="safetensors", found=str(error), hint="Restore the file.") from error


def _assemble(tensors: dict[str, Tensor], card: dict[str, object], *, digest: str) -> Sae:
    latents, width, k = (_whole_number(card, key) for key in ("latents", "d_model", "k"))
    shapes = {"w_enc": (latents, width), "b_enc": (latents,), "w_dec": (latents, width), "b_dec": (width,)}
    if card.get("decoder_seed") is not None and "w_dec" not in tensors:
        tensors["w_dec"] = random_decoder(latents, width, seed=_whole_number(card, "decoder_seed"))
    if set(tensors) != set(shapes):
        raise SaeInvalid(
            item=str(card["name"]),
            expected=f"the tensors {', '.join(sorted(shapes))}",
            found=", ".join(sorted(tensors)) or "none",
            hint="Save the SAE in the canonical form.",
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            raise SaeInvalid(
                item=f"{card['name']}: {name}",
                expected=f"shape {shape}",
                found=str(tuple(tensor.shape)),
                hint="The card promises another shape than the weights have.",
            )
        if not bool(torch.isfinite(tensor).all()):
            raise SaeInvalid(
                item=f"{card['name']}: {name}",
                expected="finite weights",
                found="NaN or infinity",
                hint="The training diverged or the file is damaged.",
            )
    if not 0 < k <= latents:
        raise SaeInvalid(item=f"{card['name']}: k", expected=f"1 to {latents}", found=str(k), hint="Mend the card.")
    norms = tensors["w_dec"].norm(dim=1)
    # Within bf16 rounding of 1: then an activation is a length in residual units, as every statistic assumes.
    if not bool(((norms - 1).abs() <= _NORM_TOLERANCE).all()):
        raise SaeInvalid(
            item=f"{card['name']}: w_dec",
            expected=f"rows of norm 1 within {_NORM_TOLERANCE}",
            found=f"norms from {float(norms.min()):.3g} to {float(norms.max()):.3g}",
            hint="Fold the decoder norms into the encoder before saving.",
        )
    training = card["training"] if isinstance(card["training"], dict) else {}
    record = SaeRecord(
        name=str(card["name"]),
        site=str(card["site"]),
        architecture=str(card["architecture"]),
        latents=latents,
        k=k,
        width=width,
        digest=digest,
        training_tokens=_whole_number(training, "tokens", default=0),
        training_updates=_whole_number(training, "updates", default=0),
        training_data_digest=str(training.get("data_digest", "unknown")),
        licence=str(card["licence"]),
    )
    return Sae(**tensors, k=k, record=record)


def _whole_number(card: Mapping[str, object], key: str, *, default: int | None = None) -> int:
    value = card.get(key, default)
    if type(value) is not int or value < 0:
        raise SaeInvalid(
            item=f"the card's {key}", expected="a whole number", found=repr(value)[:60], hint="Mend the card."
        )
    return value


def _require_shape(residual: Tensor, sae: Sae) -> None:
    if residual.ndim != 2 or residual.shape[1] != sae.b_dec.shape[0]:
        raise ShapeMismatch(
            item=f"residual for {sae.record.name}",
            expected=f"(tokens, {sae.b_dec.shape[0]})",
            found=str(tuple(residual.shape)),
            hint="The SAE belongs to a model of another width.",
        )
