"""Read weights and configurations without running code that they bring along.

safetensors and npz hold arrays only. A pickle is read with `torch.load(weights_only=True)`, which knows tensors and
plain containers; one that asks for anything else is refused: loading it would run code of whoever wrote the file.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from audit.digests import digest_file, digest_tree
from audit.errors import SaeInvalid

PICKLES = frozenset({".pt", ".pth", ".bin"})
# What damaged files make torch.load and np.load raise, measured by flipping and cutting bytes.
_DAMAGED = (
    AssertionError, AttributeError, EOFError, IndexError, KeyError, MemoryError, OSError, OverflowError, RuntimeError,
    TypeError, ValueError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
_CODE = re.compile(r"GLOBAL (?P<name>[\w.]+)|Unsupported (?:operand|class) (?P<operand>\S+)")
_SHOWN = 12
# What an archive may unpack to. Weights are noise and hardly shrink; 1,000 times is what packed zeros reach.
_MOST_INFLATED, _ALWAYS_ALLOWED_BYTES = 100, 64 * 2**20


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Map a safetensors file into memory: {name: tensor} in the file's own types.

    Raises:
        SaeInvalid: it is not one, or it is cut short.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise SaeInvalid(item=str(path), expected="safetensors", found=str(error), hint="Restore the file.") from error


def read_torch(path: Path) -> dict[str, object]:
    """Read a file of `torch.save`, mapped into memory where its form allows: {name: tensor, number, text or container}.

    Raises:
        SaeInvalid: it asks for code, is damaged, holds no dictionary, or promises more numbers than it has.
    """
    try:
        with warnings.catch_warnings():
            # torch warns of protocol numbers that only a damaged file has; the error below says what is wrong.
            warnings.simplefilter("ignore")
            mapped = zipfile.is_zipfile(path)
            if mapped:
                _require_no_bomb(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except _DAMAGED as error:
        raise SaeInvalid(
            item=str(path),
            expected="a file of torch.save",
            found=f"{type(error).__name__}: {_first_line(error)}",
            hint="Restore the file.",
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SaeInvalid(
            item=str(path),
            expected="a dictionary of tensors by name",
            found=type(content).__name__,
            hint="Save the SAE's state_dict.",
        )
    size = path.stat().st_size
    for name, tensor in tensors_of(content).items():
        _require_stored(tensor, item=f"{path}: {name}", most_bytes=size)
    return content


def read_npz(path: Path) -> dict[str, Tensor]:
    """Read an npz file: {name: tensor} in the file's own types.

    Raises:
        SaeInvalid: it is not one, is damaged, unpacks to far more than its size, or has an array of Python objects.
    """
    try:
        _require_no_bomb(path)
        # Opened here: numpy leaves a file open that is no archive.
        with warnings.catch_warnings(), path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            # numpy warns of headers that only a damaged file, or one of Python 2, has.
            warnings.simplefilter("ignore")
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (*_DAMAGED, SyntaxError, tokenize.TokenError, zlib.error) as error:
        raise SaeInvalid(
            item=str(path),
            expected="an npz file of numbers",
            found=f"{type(error).__name__}: {_first_line(error)}",
            hint="Arrays of Python objects can hold code and are refused; otherwise restore the file.",
        ) from error


def read_json(path: Path) -> dict[str, object]:
    """Read a configuration.

    Raises:
        SaeInvalid: it is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise SaeInvalid(
            item=str(path), expected="a JSON object", found=_first_line(error), hint="Restore the file."
        ) from error
    if not isinstance(content, dict):
        raise SaeInvalid(
            item=str(path), expected="a JSON object", found=type(content).__name__, hint="Restore the file."
        )
    return content


def digest_files(folder: Path, paths: Collection[Path]) -> str:
    """Return one digest over the names, relative to a folder, and the contents of the files that decide an SAE."""
    return digest_tree({path.relative_to(folder).as_posix(): digest_file(path) for path in paths})


def tensors_of(content: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the tensors of what `read_torch` read."""
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def take(tensors: dict[str, Tensor], name: str, *, item: str, dims: int = 1, transposed: bool = False) -> Tensor:
    """Move a tensor out of a file: float32, contiguous, in memory of its own.

    A copy, so that later changes of the file cannot reach it, and only one: the file's pages can be dropped.

    Args:
        tensors: the file's; the tensor is removed from it.
        name: of the tensor.
        item: what errors speak of.
        dims: how many dimensions it must have.
        transposed: whether the file has its two dimensions the other way round.

    Raises:
        SaeInvalid: there is none, it is not made of floating point numbers, has another number of dimensions, or its
            shape promises more numbers than are stored.
    """
    if name not in tensors:
        raise SaeInvalid(
            item=item,
            expected=f"a tensor {name}",
            found=f"the tensors {_listed(tensors)}",
            hint="Weights and configuration are of different SAEs, or the file is of another format.",
        )
    tensor = tensors.pop(name).detach()
    _require_stored(tensor, item=f"{item}: {name}")
    if not tensor.is_floating_point() or tensor.ndim != dims:
        raise SaeInvalid(
            item=f"{item}: {name}",
            expected=f"floating point numbers in {dims} dimensions",
            found=f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}",
            hint="The weights are quantised, or of another architecture than the configuration promises.",
        )
    view = tensor.T if transposed else tensor
    return torch.empty(view.shape, dtype=torch.float32).copy_(view)


def require_none_left(tensors: Mapping[str, Tensor], *, item: str, architecture: str) -> None:
    """Refuse weights that the architecture of the configuration does not have.

    Raises:
        SaeInvalid: naming them.
    """
    if tensors:
        raise SaeInvalid(
            item=item,
            expected=f"the tensors of the architecture {architecture}",
            found=f"also {_listed(tensors)}",
            hint="The configuration promises another architecture than the weights have.",
        )


def _require_stored(tensor: Tensor, *, item: str, most_bytes: int | None = None) -> None:
    """Refuse a tensor that has fewer numbers in memory than its shape says, before anything of that shape is made.

    A file of 2 kB can hold a tensor of 40 TB: strides of 0 repeat one number, sparse ones leave all out.

    Args:
        tensor: as it was read.
        item: what the error speaks of.
        most_bytes: size of the file that it comes from, or None where it is not known.
    """
    promised = tensor.numel() * tensor.element_size()
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    stored = tensor.untyped_storage().nbytes() if dense else 0
    if not dense or promised > stored or (most_bytes is not None and stored > most_bytes):
        raise SaeInvalid(
            item=item,
            expected=f"all {promised} bytes of a tensor of shape {tuple(tensor.shape)}",
            found=f"{min(stored, stored if most_bytes is None else most_bytes)} bytes"
            if dense
            else f"a tensor that is not stored number by number ({tensor.layout}, {tensor.device})",
            hint="Save dense tensors, expanded ones with `.contiguous()`.",
        )


def _require_no_bomb(path: Path) -> None:
    """Refuse an archive that would unpack to far more than its own size.

    Raises:
        SaeInvalid: it would.
        zipfile.BadZipFile: it is no archive.
    """
    with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        inflated = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    if inflated > max(_MOST_INFLATED * size, _ALWAYS_ALLOWED_BYTES):
        raise SaeInvalid(
            item=str(path),
            expected=f"an archive that unpacks to at most {_MOST_INFLATED} times its size of {size} bytes",
            found=f"{inflated} bytes",
            hint="It is made to fill the memory. If it is not, save the weights without compression.",
        )


def _refused(path: Path, message: str) -> SaeInvalid:
    asked = _CODE.search(message)
    if asked is None:
        return SaeInvalid(
            item=str(path), expected="a file of torch.save", found="a damaged pickle", hint="Restore the file."
        )
    wanted = asked["name"] or f"an instruction ({asked['operand']}) that weights do not need"
    return SaeInvalid(
        item=str(path),
        expected="weights only",
        found=f"a pickle that wants to run code: {wanted}. It was refused and nothing of it ran",
        hint="Ask its author to save the state_dict as safetensors, or convert it where you may run their code.",
    )


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return (", ".join(shown[:_SHOWN]) or "none") + more


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
