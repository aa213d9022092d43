"""OpenAI's SAEs for GPT-2 small: one file of `torch.save` a layer, ReLU or TopK (Gao et al. 2024, 2406.04093).

The bias before the encoder is the one behind the decoder. TopK ones normalise each token's mean and deviation first and
undo it at the output; the file says so only by its activation. Facts from openai/sparse_autoencoder (`model.py`).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from audit.capture.encoder import Threshold, TopK
from audit.capture.formats.canonical import Parts, canonical
from audit.capture.formats.config_values import ConfigValues
from audit.capture.formats.places import Place, Sites, new_record, settle_sites
from audit.capture.formats.weight_files import (
    PICKLES,
    digest_files,
    read_torch,
    require_none_left,
    take,
    tensors_of,
)
from audit.capture.sae import InputNorm, Sae
from audit.errors import SaeInvalid

FORMAT = "OpenAI"
_LOCATION = re.compile(
    r"(?P<location>resid_delta_attn|resid_delta_mlp|resid_post_attn|resid_post_mlp|mlp_post_act)"
    r"(?:_v[0-9]+)?(?:_[0-9]+k)?/autoencoders/(?P<layer>[0-9]{1,4})\.pt",
    re.MULTILINE,
)
_SITES = {
    "resid_delta_attn": "attn_out",
    "resid_post_attn": "resid_mid",
    "resid_delta_mlp": "mlp_out",
    "resid_post_mlp": "resid_post",
}
# Counters of the training, no part of the SAE.
_COUNTERS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")


def recognises(path: Path) -> bool:
    """Tell whether a file is a pickle with OpenAI's names."""
    return path.is_file() and path.suffix in PICKLES and {"pre_bias", "latent_bias"} <= set(read_torch(path))


def read(place: Place) -> Sae:
    """Read an SAE.

    Raises:
        SaeInvalid: the file is damaged, wants to run code, has another activation than ReLU or TopK with ReLU, or
            neither its path nor the user say the site.
    """
    item = f"SAE {place.source!r}"
    digest = digest_files(place.folder, (place.path,))
    content = read_torch(place.path)
    rule = _rule(ConfigValues(item, content))
    sites = settle_sites(place, _sites(place, item))
    tensors = tensors_of(content)
    del content
    for counter in _COUNTERS:
        tensors.pop(counter, None)
    w_enc = take(tensors, "encoder.weight", item=item, dims=2)
    # A tied decoder is stored as a second name of the encoder, whose transpose it is.
    tied = tensors.pop("decoder.linear.weight", None) is not None
    w_dec = w_enc.clone() if tied else take(tensors, "decoder.weight", item=item, dims=2, transposed=True)
    pre_bias = take(tensors, "pre_bias", item=item)
    latents, width = w_enc.shape[0], pre_bias.shape[0]
    parts = Parts(
        w_enc=w_enc,
        b_enc=take(tensors, "latent_bias", item=item),
        w_dec=w_dec,
        b_dec=pre_bias,
        rule=rule if rule is not None else Threshold(torch.zeros(latents)),
        centre=pre_bias,
        input_norm=InputNorm.NONE if rule is None else InputNorm.LAYER_NORM,
    )
    architecture = "standard" if rule is None else "topk"
    require_none_left(tensors, item=item, architecture=architecture)
    record = new_record(
        place,
        sites,
        form=FORMAT,
        architecture=architecture,
        latents=latents,
        width=width,
        target_width=width,
        k=rule.k if isinstance(rule, TopK) else None,
        digest=digest,
        notes=("pre_bias is subtracted from the input",),
    )
    return canonical(parts, record)


def _rule(values: ConfigValues) -> TopK | None:
    """Return the TopK, or None for a ReLU."""
    activation = values.text("activation", "ReLU")
    after = values.section("activation_state_dict").text("postact_fn", "ReLU") if activation == "TopK" else "ReLU"
    if activation not in {"ReLU", "TopK"} or after != "ReLU":
        raise SaeInvalid(
            item=values.item,
            expected="ReLU, or TopK followed by ReLU",
            found=activation if after == "ReLU" else f"{activation} followed by {after}",
            hint="Its activations can be negative: it cannot be audited with this version.",
        )
    return None if activation == "ReLU" else TopK(values.section("activation_state_dict").whole("k"))


def _sites(place: Place, item: str) -> Sites | None:
    found = _LOCATION.search(place.words)
    if found is None:
        return None
    if found["location"] not in _SITES:
        raise SaeInvalid(
            item=item,
            expected=f"an SAE at {', '.join(_SITES)}",
            found=f"one at {found['location']}, inside the MLP",
            hint="No audit can read there.",
        )
    site = f"{_SITES[found['location']]}.{int(found['layer'])}"
    return Sites(site, site)
