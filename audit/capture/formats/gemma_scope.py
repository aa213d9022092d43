"""Gemma Scope: `params.npz` for Gemma 2 (Lieberum et al. 2024, 2408.05147) and `params.safetensors` for Gemma 3.

JumpReLU throughout; b_dec is not subtracted from the input. The first release says its site only in the names of the
repository and the folders, Gemma Scope 2 in `config.json`. Facts from the publisher's notebooks and from sae-lens
6.54.12, whose loaders the tests compare with.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from audit.capture.encoder import Threshold
from audit.capture.formats.canonical import Parts, canonical
from audit.capture.formats.config_values import ConfigValues
from audit.capture.formats.places import Place, Sites, canonical_site, new_record, settle_sites
from audit.capture.formats.weight_files import (
    digest_files,
    read_json,
    read_npz,
    read_safetensors,
    require_none_left,
    take,
)
from audit.capture.sae import Sae
from audit.errors import SaeInvalid

FORMAT = "Gemma Scope"
FORMAT_2 = "Gemma Scope 2"
NPZ_FILE = "params.npz"
SAFETENSORS_FILE = "params.safetensors"
CONFIG_FILE = "config.json"
_SKIP = "affine_skip_connection"
_RELEASE = re.compile(r"gemma-scope-\d+b-(?:pt|it)-(?P<kind>res|mlp|att|transcoders)")
_LAYER = re.compile(r"layer_(?P<layer>[0-9]{1,4})(?=[/_]|$)", re.MULTILINE)
_EMBEDDING = re.compile(r"(?:^|/)embedding/", re.MULTILINE)
_SECOND = re.compile(
    r"(?:^|[/:])(?P<kind>resid_post|attn_out|mlp_out|transcoder)(?:_all)?/layer_(?P<layer>[0-9]{1,4})_", re.MULTILINE
)
# Where each release reads: attention SAEs in front of the output projection, MLP SAEs behind the norm that follows it.
# The transcoders of the first release read the normalised stream without the norm's gain, which was folded into the MLP
# for their training (technical details of 2408.05147); those of the second read what the MLP reads.
_FIRST_SITES = {
    "res": ("resid_post", "resid_post"),
    "mlp": ("mlp_out", "mlp_out"),
    "att": ("attn_z", "attn_z"),
    "transcoders": ("mlp_normalized", "mlp_out"),
}
_SECOND_SITES = {
    "resid_post": ("resid_post", "resid_post"),
    "mlp_out": ("mlp_out", "mlp_out"),
    "attn_out": ("attn_z", "attn_z"),
    "transcoder": ("mlp_in", "mlp_out"),
}


def recognises(path: Path) -> bool:
    """Tell whether a folder has `params.npz`, or whether this is such a file."""
    return (path / NPZ_FILE).is_file() or (path.suffix == ".npz" and path.is_file())


def recognises_second(path: Path) -> bool:
    """Tell whether a folder has `params.safetensors`, or whether this is that file."""
    return (path / SAFETENSORS_FILE).is_file() or (path.name == SAFETENSORS_FILE and path.is_file())


def read(place: Place) -> Sae:
    """Read an SAE or transcoder of the first release.

    Raises:
        SaeInvalid: the file is damaged, or neither names nor user say the site.
    """
    path = place.path if place.path.is_file() else place.path / NPZ_FILE
    item = f"SAE {place.source!r}"
    if _EMBEDDING.search(place.words):
        raise SaeInvalid(
            item=item,
            expected="an SAE at a site of a decoder layer",
            found="an SAE of the embedding, whose scale its files do not say",
            hint="No audit can read there.",
        )
    digest = digest_files(path.parent, (path,))
    sites = settle_sites(place, _first_sites(place))
    return _jumprelu(place, sites, read_npz(path), form=FORMAT, skip=None, digest=digest, notes=())


def read_second(place: Place) -> Sae:
    """Read an SAE or transcoder of Gemma Scope 2.

    Raises:
        SaeInvalid: a file is damaged, they contradict each other, or it is a cross-layer transcoder.
    """
    path = place.path if place.path.is_file() else place.path / SAFETENSORS_FILE
    config_path = path.parent / CONFIG_FILE
    files = (path, config_path) if config_path.is_file() else (path,)
    digest = digest_files(path.parent, files)
    item = f"SAE {place.source!r}"
    config = ConfigValues(f"{item}: {CONFIG_FILE}", read_json(config_path) if config_path.is_file() else {})
    if (architecture := config.text("architecture", "jump_relu")) != "jump_relu":
        raise SaeInvalid(
            item=config.item, expected="architecture jump_relu", found=architecture, hint="This version cannot read it."
        )
    sites = settle_sites(place, _second_sites(place, config))
    tensors = read_safetensors(path)
    skip = take(tensors, _SKIP, item=item, dims=2, transposed=True) if _SKIP in tensors else None
    if "affine_connection" in config and config.flag("affine_connection") is not (skip is not None):
        raise SaeInvalid(
            item=f"{item}: {_SKIP}",
            expected=f"affine_connection is {str(skip is not None).lower()}, as in the weights",
            found=str(config.flag("affine_connection")).lower(),
            hint="Weights and configuration are of different transcoders.",
        )
    if "width" in config and "b_enc" in tensors and tensors["b_enc"].shape != (config.whole("width"),):
        raise SaeInvalid(
            item=f"{item}: b_enc",
            expected=f"shape ({config.whole('width')},)",
            found=str(tuple(tensors["b_enc"].shape)),
            hint="The configuration promises another number of latents than the weights have.",
        )
    return _jumprelu(place, sites, tensors, form=FORMAT_2, skip=skip, digest=digest, notes=())


def _jumprelu(
    place: Place,
    sites: Sites,
    tensors: dict[str, Tensor],
    *,
    form: str,
    skip: Tensor | None,
    digest: str,
    notes: tuple[str, ...],
) -> Sae:
    item = f"SAE {place.source!r}"
    # The first release writes W_enc, the second w_enc.
    named = {f"w{name[1:]}" if name in {"W_enc", "W_dec"} else name: tensor for name, tensor in tensors.items()}
    tensors.clear()
    decoder = named.get("w_dec")
    if decoder is not None and decoder.ndim == 3:
        raise SaeInvalid(
            item=f"{item}: w_dec",
            expected="a decoder for one site",
            found=f"shape {tuple(decoder.shape)}, one for each layer: a cross-layer transcoder",
            hint="It cannot be audited with this version.",
        )
    w_enc = take(named, "w_enc", item=item, dims=2, transposed=True)
    w_dec = take(named, "w_dec", item=item, dims=2)
    parts = Parts(
        w_enc=w_enc,
        b_enc=take(named, "b_enc", item=item),
        w_dec=w_dec,
        b_dec=take(named, "b_dec", item=item),
        rule=Threshold(take(named, "threshold", item=item)),
        w_skip=skip,
    )
    require_none_left(named, item=item, architecture="jumprelu")
    record = new_record(
        place,
        sites,
        form=form,
        architecture="jumprelu" if skip is None else "jumprelu, skip",
        latents=w_enc.shape[0],
        width=w_enc.shape[1],
        target_width=w_dec.shape[1],
        digest=digest,
        notes=notes,
    )
    return canonical(parts, record)


def _first_sites(place: Place) -> Sites | None:
    release = _RELEASE.search(place.words)
    layers = {match["layer"] for match in _LAYER.finditer(place.words)}
    if release is None or len(layers) != 1:
        return None
    site, target = _FIRST_SITES[release["kind"]]
    layer = layers.pop()
    return Sites(f"{site}.{int(layer)}", f"{target}.{int(layer)}")


def _second_sites(place: Place, config: ConfigValues) -> Sites | None:
    if "hf_hook_point_in" in config:
        site = canonical_site(config.text("hf_hook_point_in"), item=config.item)
        target = canonical_site(config.text("hf_hook_point_out", config.text("hf_hook_point_in")), item=config.item)
        return Sites(site, target)
    found = _SECOND.search(place.words)
    if found is None:
        return None
    site, target = _SECOND_SITES[found["kind"]]
    return Sites(f"{site}.{int(found['layer'])}", f"{target}.{int(found['layer'])}")
