"""Where a bundle grows: beside its final name, resumable, renamed when it is sealed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.errors import OutputError

ATTESTATION = "attestation.sigstore.json"


@dataclass(frozen=True, slots=True)
class Workspace:
    """An unfinished bundle and the name that it will get."""

    folder: Path
    final: Path

    def publish(self) -> None:
        """Give the finished bundle its name, in one step."""
        if self.final.is_dir():
            self.final.rmdir()
        self.folder.rename(self.final)


@contextlib.contextmanager
def open_workspace(final: Path) -> Iterator[Workspace]:
    """Open the unfinished bundle of a final name; finished shards of an earlier, killed run are kept.

    An error before the first shard removes the folder again, so that nothing half-written is left behind.

    Args:
        final: where the sealed bundle shall be. It must not exist, or be an empty folder.

    Raises:
        OutputError: the name is taken, or its parent cannot be written.
    """
    refuse_taken(final)
    folder = final.with_name(f".{final.name}.unfinished")
    lock_path = final.with_name(f".{final.name}.lock")
    with hold(lock_path, item=final):
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise _cannot_write(final, error) from error
        try:
            yield Workspace(folder, final)
        finally:
            _remove_if_empty(folder)


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that gets its final name when the block ends; after an error nothing of it is left.

    Args:
        final: must not exist.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    if final.exists() or final.is_symlink():
        raise OutputError(
            item=str(final), expected="a new folder", found="one that exists", hint="Choose another --out."
        )
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{final.name}.") as beside:
            folder = Path(beside) / final.name
            folder.mkdir()
            yield folder
            folder.rename(final)
    except OSError as error:
        raise _cannot_write(final, error) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; one that is there is replaced.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as beside:
            made = Path(beside) / path.name
            made.write_bytes(data)
            made.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextlib.contextmanager
def hold(lock_path: Path, *, item: Path) -> Iterator[None]:
    """Keep other processes away from a folder while the block runs.

    Args:
        lock_path: a file that stands for the folder; removed at the end.
        item: the folder, for the error.

    Raises:
        OutputError: another process holds it, or the lock cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            lock_path.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(lock_path.open("w"))
            # Released by the kernel when the process ends, however it ends: a killed run never blocks the next one.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stack.callback(lock_path.unlink, missing_ok=True)
        except BlockingIOError as error:
            raise OutputError(
                item=str(item),
                expected="no other run writing there",
                found="another run that is still going",
                hint="Wait for it, or choose another folder.",
            ) from error
        except OSError as error:
            raise _cannot_write(item, error) from error
        yield


def _cannot_write(item: Path, error: OSError) -> OutputError:
    return OutputError(
        item=str(item),
        expected="a place that can be written, with room",
        found=error.strerror or type(error).__name__,
        hint="Choose another folder, free space, or mend the rights.",
    )


def refuse_taken(final: Path) -> None:
    """Refuse a final name that holds anything.

    Raises:
        OutputError: a sealed bundle, a file or other files are there. Nothing is ever overwritten.
    """
    if (final / ATTESTATION).exists():
        raise OutputError(
            item=str(final),
            expected="a new folder",
            found="a sealed bundle",
            hint="A sealed bundle is never changed: choose another --out.",
        )
    if final.is_file() or (final.is_dir() and any(final.iterdir())):
        raise OutputError(
            item=str(final), expected="a new or empty folder", found="other files", hint="Choose another --out."
        )


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
        shutil.rmtree(folder)
