"""Folders of EleutherAI's sparsify: `cfg.json` and `sae.safetensors`, named after the module that they were trained on.

Facts from eai-sparsify 1.3.3 (`sparse_coder.py`, `fused_encoder.py`); the tests compare with it. Two traps, both of
which SAELens' loader falls into: W_dec is stored as (latents, d_out), and b_dec is subtracted from the input unless the
coder transcodes.
"""

from __future__ import annotations

import re
from pathlib import Path

from audit.capture.encoder import TopK
from audit.capture.formats.canonical import Parts, canonical
from audit.capture.formats.config_values import ConfigValues
from audit.capture.formats.places import Place, Sites, canonical_site, new_record, settle_sites
from audit.capture.formats.weight_files import digest_files, read_json, read_safetensors, require_none_left, take
from audit.capture.sae import Sae
from audit.errors import SaeInvalid

FORMAT = "sparsify"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"
_HOOKPOINT = re.compile(r"(?:layers|h|blocks)\.(?P<layer>[0-9]{1,4})(?:\.(?P<module>[a-z0-9_.]+))?")
_MLP = re.compile(r"(?:mlp|feed_forward|block_sparse_moe)")


def recognises(path: Path) -> bool:
    """Tell whether a folder, or a weights file, has the names that sparsify gives them."""
    folder = path.parent if path.name == WEIGHTS_FILE else path
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def read(place: Place) -> Sae:
    """Read a sparse coder.

    Raises:
        SaeInvalid: a file is damaged, the two contradict each other, or its activations are not those of a TopK.
    """
    config_path, weights_path = place.folder / CONFIG_FILE, place.folder / WEIGHTS_FILE
    digest = digest_files(place.folder, (config_path, weights_path))
    item = f"SAE {place.source!r}"
    config = ConfigValues(f"{item}: {CONFIG_FILE}", read_json(config_path))
    _require_topk(config)
    width, k = config.whole("d_in"), config.whole("k")
    latents = config.whole("num_latents", 0) or width * config.whole("expansion_factor")
    transcodes, skips = config.flag("transcode", False), config.flag("skip_connection", False)
    sites = settle_sites(place, _sites(place, transcodes=transcodes))
    tensors = read_safetensors(weights_path)
    b_dec = take(tensors, "b_dec", item=item)
    parts = Parts(
        w_enc=take(tensors, "encoder.weight", item=item, dims=2),
        b_enc=take(tensors, "encoder.bias", item=item),
        w_dec=take(tensors, "W_dec", item=item, dims=2),
        b_dec=b_dec,
        rule=TopK(k),
        centre=None if transcodes else b_dec,
        w_skip=take(tensors, "W_skip", item=item, dims=2) if skips else None,
    )
    skip = ", skip" if skips else ""
    require_none_left(tensors, item=item, architecture=f"topk{skip}")
    record = new_record(
        place,
        sites,
        form=FORMAT,
        architecture=f"topk{skip}",
        latents=latents,
        width=width,
        target_width=width,
        k=k,
        digest=digest,
        notes=() if transcodes else ("b_dec is subtracted from the input",),
    )
    return canonical(parts, record)


def _require_topk(config: ConfigValues) -> None:
    activation = config.text("activation", "topk")
    reason = None
    if activation != "topk":
        reason = f"activation {activation}: one latent of each of k groups fires, not the k largest"
    elif config.flag("signed", False):
        reason = "signed: its activations can be negative"
    if reason is not None:
        raise SaeInvalid(
            item=config.item,
            expected="an SAE that fires at its k largest positive pre-activations",
            found=reason,
            hint="It cannot be audited with this version.",
        )


def _sites(place: Place, *, transcodes: bool) -> Sites | None:
    """Return what the folder's name says: sparsify calls a folder by the module whose output it was trained on."""
    hookpoint = next((found for part in reversed(place.folder.parts) if (found := _HOOKPOINT.fullmatch(part))), None)
    if hookpoint is None:
        return None
    item = f"SAE {place.source!r}"
    target = canonical_site(hookpoint[0], item=item)
    if not transcodes:
        return Sites(target, target)
    if hookpoint["module"] is None:
        return Sites(f"resid_pre.{int(hookpoint['layer'])}", target)
    if _MLP.fullmatch(hookpoint["module"]):
        return Sites(f"mlp_in.{int(hookpoint['layer'])}", target)
    raise SaeInvalid(
        item=item,
        expected="a transcoder of an MLP or of a whole layer",
        found=f"one of {hookpoint[0]}, whose input is no site",
        hint="No audit can read there.",
    )
