"""Goodfire's SAEs for Llama: one file of `torch.save` with `encoder_linear` and `decoder_linear`.

A ReLU; the decoder's bias is not subtracted from the input. Facts from the publisher's notebook and sae-lens 6.54.12,
whose loader the tests compare with.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from audit.capture.encoder import Threshold
from audit.capture.formats.canonical import Parts, canonical
from audit.capture.formats.places import Place, Sites, new_record, settle_sites
from audit.capture.formats.weight_files import (
    PICKLES,
    digest_files,
    read_torch,
    require_none_left,
    take,
    tensors_of,
)
from audit.capture.sae import Sae

FORMAT = "Goodfire"
_LAYER = re.compile(r"SAE-l(?P<layer>[0-9]{1,4})(?=\.pth?$)")


def recognises(path: Path) -> bool:
    """Tell whether a file is a pickle with Goodfire's names."""
    return path.is_file() and path.suffix in PICKLES and "encoder_linear.weight" in read_torch(path)


def read(place: Place) -> Sae:
    """Read an SAE.

    Raises:
        SaeInvalid: the file is damaged, wants to run code, or neither its name nor the user say the site.
    """
    item = f"SAE {place.source!r}"
    digest = digest_files(place.folder, (place.path,))
    layer = _LAYER.search(place.path.name)
    found = None if layer is None else Sites(*2 * (f"resid_post.{int(layer['layer'])}",))
    sites = settle_sites(place, found)
    tensors = tensors_of(read_torch(place.path))
    w_enc = take(tensors, "encoder_linear.weight", item=item, dims=2)
    b_dec = take(tensors, "decoder_linear.bias", item=item)
    latents, width = w_enc.shape[0], b_dec.shape[0]
    parts = Parts(
        w_enc=w_enc,
        b_enc=take(tensors, "encoder_linear.bias", item=item),
        w_dec=take(tensors, "decoder_linear.weight", item=item, dims=2, transposed=True),
        b_dec=b_dec,
        rule=Threshold(torch.zeros(latents)),
    )
    require_none_left(tensors, item=item, architecture="standard")
    record = new_record(
        place,
        sites,
        form=FORMAT,
        architecture="standard",
        latents=latents,
        width=width,
        target_width=width,
        digest=digest,
    )
    return canonical(parts, record)
