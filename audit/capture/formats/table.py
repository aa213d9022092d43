"""The formats that can be read: one row each, tried in this order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit.capture.formats import (
    dictionary_learning,
    gemma_scope,
    goodfire,
    llama_scope,
    openai,
    own,
    saelens,
    sparsify,
)
from audit.capture.formats.places import Place
from audit.capture.formats.weight_files import PICKLES
from audit.capture.sae import Sae
from audit.errors import SaeInvalid

_SINGLE = PICKLES | {".npz", ".safetensors"}
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Format:
    """A layout of files.

    Args:
        name: as records say it.
        files: what it looks like, for people.
        recognises: tells whether a folder or file has the layout.
        read: reads it.
    """

    name: str
    files: str
    recognises: Callable[[Path], bool]
    read: Callable[[Place], Sae]


FORMATS = (
    Format("affidavit", "card.json, sae.safetensors", own.is_own, own.read),
    Format(saelens.FORMAT, "cfg.json, sae_weights.safetensors", saelens.recognises, saelens.read),
    Format(sparsify.FORMAT, "cfg.json, sae.safetensors", sparsify.recognises, sparsify.read),
    Format(gemma_scope.FORMAT, "params.npz", gemma_scope.recognises, gemma_scope.read),
    Format(
        gemma_scope.FORMAT_2, "params.safetensors, config.json", gemma_scope.recognises_second, gemma_scope.read_second
    ),
    Format(
        llama_scope.FORMAT,
        "hyperparams.json, checkpoints/final.safetensors; or config.json, sae_weights.safetensors",
        llama_scope.recognises,
        llama_scope.read,
    ),
    Format(dictionary_learning.FORMAT, "ae.pt, config.json", dictionary_learning.recognises, dictionary_learning.read),
    Format(goodfire.FORMAT, "one .pt or .pth with encoder_linear.weight", goodfire.recognises, goodfire.read),
    Format(openai.FORMAT, "one .pt with pre_bias and latent_bias", openai.recognises, openai.read),
)


def read_place(place: Place) -> Sae:
    """Read an SAE in the one format that its files have.

    A folder that has none of the layouts, but one weights file, is read as that file.

    Raises:
        SaeInvalid: no format has such files, or more than one has.
    """
    path = place.path
    found = [form for form in FORMATS if form.recognises(path)]
    if not found and path.is_dir():
        weights = [entry for entry in sorted(path.iterdir()) if entry.suffix in _SINGLE and entry.is_file()]
        if len(weights) == 1:
            path = weights[0]
            found = [form for form in FORMATS if form.recognises(path)]
    if len(found) != 1:
        raise SaeInvalid(
            item=f"SAE {place.source!r}",
            expected=f"the files of one known format:\n{_known()}",
            found=" and ".join(form.name for form in found) or _listing(place.path),
            hint="Give the folder or the file of one SAE. SAELens releases in other layouts: `saelens:RELEASE/SAE_ID`.",
        )
    return found[0].read(Place(path, place.source, place.name, place.stated))


def _known() -> str:
    return "\n".join(f"    {form.name}: {form.files}" for form in FORMATS)


def _listing(path: Path) -> str:
    if not path.is_dir():
        return f"the file {path.name}, in none of them"
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "an empty folder") + more
