"""`affidavit diff`: what it prints, what it writes, and with which code it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from audit.cli.diff import diff
from audit.cli.root import run
from audit.errors import EvidenceError
from audit.signing.difference import read_difference
from audit.signing.keys import Signer
from tests.differences_making import CONCEPTS, Edit, Version, seal_version


@pytest.fixture(scope="module")
def sealed(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Version], Path]:
    """Return a function that makes a sealed bundle of a version, once."""
    made: dict[str, Path] = {}

    def one(version: Version) -> Path:
        if repr(version) not in made:
            made[repr(version)] = seal_version(tmp_path_factory.mktemp("sealed") / "bundle", version, signer)
        return made[repr(version)]

    return one


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sealing key of today."""
    folder = tmp_path_factory.mktemp("key") / "seal"
    assert run(["keys", "new", "--out", str(folder), "--name", "Test"]) == 0
    return folder / "key.pem"


def invoke(*arguments: object) -> Result:
    """Run the command and let errors through."""
    return CliRunner().invoke(diff, [str(argument) for argument in arguments], catch_exceptions=True)


def test_a_difference_is_printed_and_written(
    key: Path, sealed: Callable[[Version], Path], certificate: Path, tmp_path: Path
) -> None:
    """The concept that changed comes first, and diff.json holds both parents' statements."""
    out = tmp_path / "diff"
    pair = sealed(Version()), sealed(Version(edits=(Edit(9, 1.2, 0.5),)))
    result = invoke(*pair, "--out", out, "--key", key, "--trust", certificate)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    first = next(line for line in lines if line.startswith("changed"))
    assert CONCEPTS[1] in first
    assert "any change could be seen" in first
    assert "noise     floor not measured; give --noise" in lines
    assert "not trusted" not in result.output
    record = read_difference((out / "diff.json").read_bytes())
    assert record.base.statement != record.new.statement
    assert record.base.trusted
    assert record.base.sequence == 1
    assert {path.name for path in out.iterdir()} == {
        "attestation.sigstore.json", "certificate.pem", "diff.json", "manifest.json", "report.html", "report.pdf",
    }  # fmt: skip


def test_json_is_the_file(key: Path, sealed: Callable[[Version], Path], tmp_path: Path) -> None:
    """--json prints the bytes that were written; a second comparison writes the same."""
    results = [
        invoke(sealed(Version()), sealed(Version()), "--out", tmp_path / name, "--key", key, "--json") for name in "ab"
    ]
    written = [(tmp_path / name / "diff.json").read_bytes() for name in "ab"]
    assert written[0] == written[1]
    assert json.loads(results[0].output) == json.loads(written[0])


def test_a_tampered_bundle_ends_with_3(
    key: Path, sealed: Callable[[Version], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed byte in either bundle is told by the check's line, and nothing is written."""
    broken = tmp_path / "broken"
    shutil.copytree(sealed(Version()), broken)
    findings = broken / "findings.json"
    findings.write_bytes(findings.read_bytes().replace(b"0.16", b"0.17", 1))
    for pair in ((broken, sealed(Version())), (sealed(Version()), broken)):
        assert run(["diff", *map(str, pair), "--out", str(tmp_path / "out"), "--key", str(key)]) == 3
        assert "files intact: changed: findings.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_suites_end_with_2(
    key: Path, sealed: Callable[[Version], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not comparable has a reason, no verdict and no file."""
    pair = (sealed(Version()), sealed(Version(suite="another")))
    assert run(["diff", *map(str, pair), "--out", str(tmp_path / "out"), "--key", str(key)]) == 2
    told = capsys.readouterr().err
    assert "not comparable" in told
    assert "digest of planted" in told
    assert not (tmp_path / "out").exists()


def test_a_redacted_copy_ends_with_2(
    key: Path, sealed: Callable[[Version], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy with withheld texts is refused with the reason."""
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(sealed(Version()), copy, dirs_exist_ok=True)
    (copy / "redaction.json").write_text("{}")
    assert run(["diff", str(sealed(Version())), str(copy), "--out", str(tmp_path / "out"), "--key", str(key)]) == 2
    assert "redacted copy" in capsys.readouterr().err


def test_a_folder_that_exists_is_refused(
    key: Path, sealed: Callable[[Version], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is overwritten."""
    (tmp_path / "kept").write_text("mine")
    pair = [str(sealed(Version()))] * 2
    assert run(["diff", *pair, "--out", str(tmp_path), "--key", str(key)]) == 2
    assert "one that exists" in capsys.readouterr().err
    assert (tmp_path / "kept").read_text() == "mine"


def test_no_bundle_ends_with_2(key: Path, tmp_path: Path) -> None:
    """A path that is no folder is wrong use."""
    assert (
        run(["diff", str(tmp_path / "none"), str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--key", str(key)])
        == 2
    )


def test_a_record_of_another_version_is_refused() -> None:
    """Another schema is told, not read."""
    with pytest.raises(EvidenceError, match="schema"):
        read_difference(b'{"schema":"affidavit/difference/0"}')


def test_a_comparison_imports_no_model(key: Path, sealed: Callable[[Version], Path], tmp_path: Path) -> None:
    """A whole comparison leaves torch and transformers unimported."""
    code = (
        "import sys; from audit.cli.root import run;"
        " code = run(['diff', *sys.argv[1:3], '--out', sys.argv[3], '--key', sys.argv[4]]);"
        " assert code == 0, code;"
        " assert not {'torch', 'transformers', 'ray'} & set(sys.modules), 'a model library was imported'"
    )
    pair = [str(sealed(Version()))] * 2
    done = subprocess.run(
        [sys.executable, "-c", code, *pair, str(tmp_path / "out"), str(key)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
