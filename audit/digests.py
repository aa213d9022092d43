"""Content digests: always with the hash's name, always over names as well as contents."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeAlias

from audit.errors import EvidenceError

ALGORITHM = "sha256"
_CHUNK_BYTES = 8 << 20
# More than these wait for the disk.
_HASHERS = 8

Json: TypeAlias = "bool | int | float | str | list[Json] | tuple[Json, ...] | Mapping[str, Json] | None"


def digest_bytes(data: bytes) -> str:
    """Return `sha256:<hex>` of the bytes."""
    return f"{ALGORITHM}:{hashlib.sha256(data).hexdigest()}"


def digest_file(path: Path) -> str:
    """Return `sha256:<hex>` of a file's bytes, read in chunks; other threads run meanwhile."""
    state = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        buffer = memoryview(bytearray(min(max(os.fstat(stream.fileno()).st_size, 1), _CHUNK_BYTES)))
        while length := stream.readinto(buffer):
            state.update(buffer[:length])
    return f"{ALGORITHM}:{state.hexdigest()}"


def digest_each(paths: Sequence[Path], *, meanwhile: Callable[[], object] | None = None) -> list[str | OSError]:
    """Return `digest_file` of each, or why it cannot be read; hashing holds no lock, so that each core takes a share.

    Args:
        paths: the files.
        meanwhile: what the calling thread does in the same time; its errors pass.
    """
    # The longest first: one that is begun last would keep one core waiting for the other.
    order = sorted(range(len(paths)), key=lambda n: _size(paths[n]), reverse=True)
    pool = ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, _HASHERS))
    try:
        found = {n: pool.submit(_digest_or_error, paths[n]) for n in order}
        if meanwhile is not None:
            meanwhile()
        return [found[n].result() for n in range(len(paths))]
    finally:
        # Nobody waits for the rest where the caller is stopped.
        pool.shutdown(cancel_futures=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _digest_or_error(path: Path) -> str | OSError:
    try:
        return digest_file(path)
    except OSError as error:
        return error


def digest_tree(files: Mapping[str, str]) -> str:
    """Return one digest over (name, digest) pairs sorted by name.

    Args:
        files: POSIX relative name -> `sha256:<hex>`.

    Returns:
        `sha256:<hex>` over the canonical JSON of the sorted pairs, so a renamed file changes it.
    """
    return digest_json([[name, files[name]] for name in sorted(files)])


def digest_folder(folder: Path) -> str:
    """Return the tree digest of every file below a folder."""
    names = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest_tree({p.relative_to(folder).as_posix(): digest_file(p) for p in names})


def digest_code(packages: Iterable[str], *, besides: Mapping[str, str] | None = None) -> str:
    """Return one digest over the files of installed packages, so that two installations with the same files agree.

    Args:
        packages: import names; every file below each counts, compiled ones aside.
        besides: further single files, name -> the package that has it.
    """
    state = hashlib.sha256()
    for package in packages:
        for name, content in sorted(_package_files(files(package), package)):
            state.update(f"{name}\0{len(content)}\0".encode())
            state.update(content)
    for name, package in (besides or {}).items():
        state.update(files(package).joinpath(name).read_bytes())
    return f"{ALGORITHM}:{state.hexdigest()}"


def _package_files(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        if item.is_dir() and item.name != "__pycache__":
            yield from _package_files(item, f"{name}/{item.name}")
        elif item.is_file():
            yield f"{name}/{item.name}", item.read_bytes()


@cache
def measuring_code() -> str:
    """Return the SHA-256 over the files that decide what is measured and how."""
    return digest_code(("audit", "probes"))


def canonical_json(value: Json) -> bytes:
    """Return the one serialisation of a JSON value: sorted keys, no spaces, UTF-8, no NaN.

    Follows RFC 8785 except for the number format, which is Python's shortest round-trip form; every reader of a bundle
    compares bytes that this function wrote, never a re-serialisation by another library.

    Raises:
        EvidenceError: a number is NaN or infinite. Evidence has no such numbers: say `null` and why.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        # It says that there is one, and not where.
        _refuse_non_finite(value, path="$")
        raise


def digest_json(value: Json) -> str:
    """Return `sha256:<hex>` of the canonical JSON of a value."""
    return digest_bytes(canonical_json(value))


def _refuse_non_finite(value: Json, *, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise EvidenceError(
            item=f"number at {path}",
            expected="a finite number or null",
            found=str(value),
            hint="Report what could not be measured as null with a reason.",
        )
    if isinstance(value, Mapping):
        for key, child in value.items():
            _refuse_non_finite(child, path=f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            _refuse_non_finite(child, path=f"{path}[{index}]")
