"""Where a bundle grows: beside its final name, resumable, renamed when it is sealed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
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
    with contextlib.ExitStack() as stack:
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(lock_path.open("w"))
            # Released by the kernel when the process ends, however it ends: a killed run never blocks the next one.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stack.callback(lock_path.unlink, missing_ok=True)
            folder.mkdir(exist_ok=True)
        except BlockingIOError as error:
            raise OutputError(
                item=str(final),
                expected="no other audit writing there",
                found="another run that is still going",
                hint="Wait for it, or choose another --out.",
            ) from error
        except OSError as error:
            raise OutputError(
                item=str(final),
                expected="a folder that can be written",
                found=error.strerror or type(error).__name__,
                hint="Choose another --out, or mend the rights.",
            ) from error
        stack.callback(_remove_if_empty, folder)
        yield Workspace(folder, final)


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
