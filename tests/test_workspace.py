"""A bundle grows beside its name and never over anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.errors import OutputError
from audit.workspace import ATTESTATION, open_workspace, refuse_taken


def test_a_sealed_bundle_is_never_touched(tmp_path: Path) -> None:
    """The error says that it is sealed."""
    (tmp_path / ATTESTATION).write_text("{}")
    with pytest.raises(OutputError) as caught:
        refuse_taken(tmp_path)
    assert caught.value.found == "a sealed bundle"


def test_other_files_are_never_touched(tmp_path: Path) -> None:
    """A folder with anything in it is not an output folder."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError), open_workspace(tmp_path):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_error_before_any_file_leaves_nothing(tmp_path: Path) -> None:
    """No folder, no lock."""
    with pytest.raises(RuntimeError), open_workspace(tmp_path / "out"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_finished_parts_stay_for_the_next_run(tmp_path: Path) -> None:
    """A file that was finished before the error is there again; publishing gives the final name."""
    with open_workspace(tmp_path / "out") as workspace:
        (workspace.folder / "shard").write_text("done")
    assert not (tmp_path / "out").exists()
    with open_workspace(tmp_path / "out") as workspace:
        assert (workspace.folder / "shard").read_text() == "done"
        workspace.publish()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_two_runs_do_not_share_a_name(tmp_path: Path) -> None:
    """The second is refused while the first goes on."""
    with open_workspace(tmp_path / "out"), pytest.raises(OutputError) as caught, open_workspace(tmp_path / "out"):
        pass
    assert "another run" in caught.value.found


def test_a_killed_run_does_not_block_the_next(tmp_path: Path) -> None:
    """The lock dies with its process, even under SIGKILL."""
    code = (
        "import os, signal, sys; from pathlib import Path; from audit.workspace import open_workspace\n"
        "with open_workspace(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False, cwd=Path.cwd())
    assert done.returncode == -9
    with open_workspace(tmp_path / "out") as workspace:
        assert workspace.folder.is_dir()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").is_dir(), reason="needs /proc when run as root")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the folder; nothing is made."""
    with pytest.raises(OutputError), open_workspace(Path("/proc/affidavit/out")):
        pass
    assert list(tmp_path.iterdir()) == []
