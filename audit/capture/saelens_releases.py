"""SAEs by the release names of SAELens: `saelens:RELEASE/SAE_ID`, read by SAELens itself.

SAELens knows layouts that have no reader here. What it returns goes through the same conversion as its folders. It is
an optional dependency: `pip install "affidavit[saelens]"`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors
from torch import Tensor

from audit.capture.formats import saelens
from audit.capture.formats.places import Place, Sites, printable
from audit.capture.sae import Sae
from audit.digests import ALGORITHM, digest_bytes, digest_tree
from audit.errors import EnvironmentProblem, SaeInvalid

PREFIX = "saelens:"
_SHOWN = 6
_BLOCK = 8192
# Cross-layer transcoders, whose decoders SAELens sums up into one: by its own warning not for reconstruction.
_SUMMED = frozenset({"mntss_clt_layer_transcoder"})


def load_release(source: str, *, stated: Sites | None) -> Sae:
    """Load an SAE by its names in SAELens' directory.

    Args:
        source: `saelens:RELEASE/SAE_ID`.
        stated: the site that the user stated, or None.

    Raises:
        EnvironmentProblem: SAELens is not installed, or the hub cannot be reached.
        SaeInvalid: there is no such release or SAE, or its architecture has no exact canonical form.
    """
    directory = _module("sae_lens.loading.pretrained_saes_directory").get_pretrained_saes_directory()
    release, sae_id = _names(source, {name: tuple(entry.saes_map) for name, entry in directory.items()})
    entry = directory[release]
    path = str(entry.saes_map[sae_id])
    if entry.conversion_func in _SUMMED or "clt" in path.split("/"):
        raise SaeInvalid(
            item=f"SAE {source!r}",
            expected="an SAE or a transcoder of one layer",
            found="a cross-layer transcoder, whose decoders SAELens sums up into one",
            hint="It cannot be audited with this version.",
        )
    loaded = _load(source, release, sae_id)
    config: dict[str, object] = loaded.cfg.to_dict()
    tensors: dict[str, Tensor] = {name: tensor.detach() for name, tensor in loaded.state_dict().items()}
    # The tensors are the only copy from here on.
    del loaded
    place = Place(Path(), source, printable(f"{release}/{sae_id}"), stated)
    note = f"read by SAELens from {entry.repo_id}: {path}"
    return saelens.convert(place, config, tensors, digest=_digest(tensors, config), notes=(note,))


def _module(name: str) -> Any:  # noqa: ANN401 - an optional library
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentProblem(
            item="SAELens",
            expected="the package sae-lens, for sources that begin with saelens:",
            found=str(error),
            hint='Install it: pip install "affidavit[saelens]"',
        ) from error


def _names(source: str, directory: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    release, _, sae_id = source.removeprefix(PREFIX).partition("/")
    if release not in directory:
        near = difflib.get_close_matches(release, directory, n=_SHOWN)
        raise SaeInvalid(
            item=f"SAE {source!r}",
            expected=f"one of the {len(directory)} releases that SAELens knows",
            found=f"{release!r}" + (f", near {', '.join(near)}" if near else ""),
            hint="Write saelens:RELEASE/SAE_ID as in SAELens' list of pretrained SAEs.",
        )
    known = directory[release]
    if sae_id not in known:
        near = difflib.get_close_matches(sae_id, known, n=_SHOWN) or list(known[:_SHOWN])
        raise SaeInvalid(
            item=f"SAE {source!r}",
            expected=f"one of the {len(known)} SAEs of {release}, such as {', '.join(near)}",
            found=repr(sae_id),
            hint="Write saelens:RELEASE/SAE_ID as in SAELens' list of pretrained SAEs.",
        )
    return release, sae_id


def _load(source: str, release: str, sae_id: str) -> Any:  # noqa: ANN401 - an optional library
    library = _module("sae_lens")
    try:
        with warnings.catch_warnings():
            # They are advice on how to load the model with TransformerLens, which is not how audits load it.
            warnings.simplefilter("ignore")
            return library.SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
    except pickle.UnpicklingError as error:
        raise SaeInvalid(
            item=f"SAE {source!r}",
            expected="weights only",
            found="a pickle that wants to run code. It was refused and nothing of it ran",
            hint="Ask its author to save the weights as safetensors.",
        ) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise EnvironmentProblem(
            item=f"SAE {source!r}",
            expected="the hub, or a copy in its cache",
            found=(str(error).strip().splitlines() or [type(error).__name__])[0][:200],
            hint="Check the network and try again.",
        ) from error
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise SaeInvalid(
            item=f"SAE {source!r}",
            expected="an SAE that SAELens can read",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            hint="The fault lies with SAELens or the published files; try another SAE.",
        ) from error


def _digest(tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> str:
    """Return one digest over weights and configuration as SAELens returned them: which files it read is its affair."""
    digests = {f"{name}{tuple(tensor.shape)}": _tensor_digest(tensor) for name, tensor in tensors.items()}
    facts = "\n".join(f"{key}={config[key]!r}" for key in sorted(config) if key not in {"device", "metadata"})
    return digest_tree({**digests, "configuration": digest_bytes(facts.encode())})


def _tensor_digest(tensor: Tensor) -> str:
    state = hashlib.sha256()
    rows = tensor.reshape(tensor.shape[0] if tensor.ndim else 1, -1)
    for start in range(0, len(rows), _BLOCK):
        state.update(rows[start : start + _BLOCK].to(torch.float32).contiguous().numpy().tobytes())
    return f"{ALGORITHM}:{state.hexdigest()}"
