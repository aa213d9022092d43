"""The steps of the GitHub action and the GitLab template run here as real processes, without either service."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from audit.signing.difference import read_difference
from audit.signing.keys import Signer, load_signer, new_sealing_key
from tests.conftest import MOMENT
from tests.differences_making import Edit, Version, planted_findings, write_evidence
from tests.redaction_making import seal_evidence, write_bundle

ROOT = Path(__file__).parents[2]
STEPS = ROOT / "ci"
Step = Callable[..., subprocess.CompletedProcess[str]]
HEAD = 'schema = "affidavit/policy/1"\ntitle = "Test"\n[[rule]]\nid = "r"\nwhy = "w"\n'


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """Return a small sealed bundle."""
    folder = tmp_path_factory.mktemp("sealed") / "bundle"
    folder.mkdir()
    write_bundle(folder, signer)
    return folder


@pytest.fixture
def step(tmp_path: Path) -> Step:
    """Return what runs one step in an empty folder, with files for its outputs."""

    def run(name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
            **variables,
        }
        command = ["bash", str(STEPS / name)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    return run


@pytest.fixture
def archive(sealed: Path, tmp_path: Path) -> Path:
    """Return the bundle as an archive, as a pipeline keeps it."""
    path = tmp_path / "base.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(sealed, arcname="bundle")
    return path


class _Handler(BaseHTTPRequestHandler):
    """Serves one archive to those who have the token; everything else is an error of its own."""

    def __init__(self, archive: Path, *args: object) -> None:
        self._archive = archive
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer by the address."""
        code = {"/absent": 404, "/broken": 403}.get(self.path, 200)
        if self.path == "/private" and self.headers.get("Authorization") != "Bearer secret":
            code = 401
        self.send_response(code)
        data = self._archive.read_bytes() if code == 200 else b""
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(archive: Path) -> Iterator[str]:
    """Yield the address of a local server that has the archive."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, archive))
    thread = Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def _gate(step: Step, sealed: Path, certificate: Path, tmp_path: Path, policy: str, **more: str) -> int:
    (tmp_path / "policy.toml").write_text(policy)
    done = step(
        "gate.sh",
        AFFIDAVIT_BUNDLE=str(sealed),
        AFFIDAVIT_POLICY="policy.toml",
        AFFIDAVIT_CERTIFICATE=str(certificate),
        **more,
    )
    return done.returncode


@pytest.mark.parametrize(
    ("kind", "code"),
    [("control = { }", 0), ("fidelity = { fvu_at_most = 0.01 }", 1), ("control = { x = 1 }", 2)],
)
def test_the_gate_step_passes_its_exit_code_on(
    request: pytest.FixtureRequest, kind: str, code: int, tmp_path: Path, step: Step
) -> None:
    """With results, step summary and outputs; without an answer the summary says so, and nothing old stands in."""
    sealed, certificate = request.getfixturevalue("sealed"), request.getfixturevalue("certificate")
    judged = code != 2
    results = tmp_path / "affidavit-results"
    results.mkdir()
    (results / "gate.sarif").write_text("old")
    assert _gate(step, sealed, certificate, tmp_path, HEAD + kind) == code
    summary, output = (tmp_path / "summary").read_text(), (tmp_path / "output").read_text()
    assert f"code={code}\n" in output
    assert ("sarif=" in output) is judged
    assert ("gave no answer" in summary) is not judged
    assert {path.name for path in results.iterdir()} == ({"gate.sarif", "gate.xml", "gate.md"} if judged else set())


def test_the_gate_step_refuses_tampered_bundles_and_asks_for_a_base(
    step: Step, sealed: Path, certificate: Path, tmp_path: Path
) -> None:
    """Exit 3 and 2; with a base, or where the policy lets a first release pass, 0."""
    copy = Path(shutil.copytree(sealed, tmp_path / "copy"))
    asked = HEAD.replace("[[rule]]", 'baseline = "required"\n[[rule]]') + "control = { }"
    assert _gate(step, sealed, certificate, tmp_path, asked) == 2
    assert _gate(step, sealed, certificate, tmp_path, asked.replace("required", "optional")) == 0
    assert _gate(step, sealed, certificate, tmp_path, asked, AFFIDAVIT_BASELINE_BUNDLE=str(copy)) == 0
    (copy / "findings.json").write_bytes(b"{}")
    assert _gate(step, copy, certificate, tmp_path, asked) == 3


def test_a_base_from_a_path(step: Step, sealed: Path, archive: Path, tmp_path: Path) -> None:
    """A folder is used as it is, an archive unpacked; a missing one is said and no error."""
    for place, expected in ((sealed, str(sealed)), (archive, "affidavit-baseline"), (tmp_path / "no", "")):
        done = step("baseline.sh", AFFIDAVIT_BASELINE_FROM="path", AFFIDAVIT_BASELINE=str(place))
        assert (done.returncode, done.stdout) == (0, f"baseline={expected}\n"), done.stderr
    assert (tmp_path / "affidavit-baseline" / "findings.json").read_bytes() == (sealed / "findings.json").read_bytes()
    assert step("baseline.sh").stdout == "baseline=\n"


@pytest.mark.parametrize("way", ["artefact", "release"])
def test_a_base_over_the_network(way: str, step: Step, server: str, archive: Path, tmp_path: Path) -> None:
    """From a local server, with digest and token; 404 is no base, anything else exit 4 and a wrong digest 3."""

    def get(path: str, **more: str) -> subprocess.CompletedProcess[str]:
        shutil.rmtree(tmp_path / "affidavit-baseline", ignore_errors=True)
        return step("baseline.sh", AFFIDAVIT_BASELINE_FROM=way, AFFIDAVIT_BASELINE=f"{server}{path}", **more)

    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    done = get("/base.tar.gz", AFFIDAVIT_BASELINE_SHA256=digest)
    assert (done.returncode, done.stdout) == (0, "baseline=affidavit-baseline\n"), done.stderr
    assert (tmp_path / "affidavit-baseline" / "attestation.sigstore.json").is_file()
    assert get("/base.tar.gz", AFFIDAVIT_BASELINE_SHA256="0" * 64).returncode == 3
    assert not (tmp_path / "affidavit-baseline").exists()
    assert get("/private").returncode == 4
    assert get("/private", AFFIDAVIT_BASELINE_TOKEN="secret").returncode == 0
    absent = get("/absent")
    assert (absent.returncode, absent.stdout) == (0, "baseline=\n")
    assert get("/broken").returncode == 4
    assert step("baseline.sh", AFFIDAVIT_BASELINE_FROM=way, AFFIDAVIT_BASELINE="file:///etc/passwd").returncode == 2


@pytest.mark.parametrize("kind", ["outside", "link", "no bundle", "no archive"])
def test_an_archive_that_is_no_bundle_is_refused(kind: str, step: Step, sealed: Path, tmp_path: Path) -> None:
    """Names that lead out, links, and anything without a seal: exit 3, and nothing outside is written."""
    path = tmp_path / "work" / "bad.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        if kind == "outside":
            tar.add(sealed / "findings.json", arcname="../../stolen")
        elif kind == "link":
            link = tarfile.TarInfo("bundle/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc"
            tar.addfile(link)
        else:
            tar.add(sealed / "findings.json", arcname="bundle/findings.json")
    if kind == "no archive":
        path.write_bytes(b"nothing")
    done = step("baseline.sh", AFFIDAVIT_BASELINE_FROM="path", AFFIDAVIT_BASELINE=str(path))
    assert done.returncode == 3, done.stdout + done.stderr
    assert not (tmp_path / "affidavit-baseline").exists()
    assert not list(tmp_path.parent.glob("stolen"))


@pytest.mark.parametrize("name", ["install.sh", "run.sh", "gate.sh"])
def test_a_step_without_its_settings_is_no_failed_gate(name: str, step: Step) -> None:
    """Exit 2, never 1."""
    assert step(name).returncode == 2


def test_what_cannot_be_installed_is_no_failed_gate(step: Step, tmp_path: Path) -> None:
    """Pip answers 1; the step 4."""
    assert step("install.sh", AFFIDAVIT_SOURCE=str(tmp_path / "absent")).returncode == 4


def test_the_run_step_needs_a_key_and_makes_no_bundle_twice(step: Step, sealed: Path, tmp_path: Path) -> None:
    """Exit 2 without the secret; a sealed bundle is left as it is; the key never stays on disk."""
    assert step("run.sh", AFFIDAVIT_BUNDLE="new").returncode == 2
    assert step("run.sh", AFFIDAVIT_BUNDLE=str(sealed)).returncode == 0
    done = step(
        "run.sh",
        AFFIDAVIT_BUNDLE="new",
        AFFIDAVIT_KEY_PEM="no key",
        AFFIDAVIT_CERTIFICATE=str(tmp_path / "no.pem"),
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 2
    assert not list(tmp_path.rglob("key.pem"))


def test_the_run_step_compares_what_a_killed_run_left_sealed(step: Step, tmp_path: Path) -> None:
    """The bundle is there and its difference is not: it is made without a second audit; a third call does nothing."""
    made = new_sealing_key(tmp_path / "seal", "CI", organisation=None, days=3650, not_before=MOMENT - timedelta(days=1))
    own = load_signer(made.key_path, made.certificate_path, at=MOMENT)
    for name, version in (("base", Version()), ("new", Version(edits=(Edit(9, 1.2, 0.5),)))):
        write_evidence(tmp_path / name, version)
        seal_evidence(tmp_path / name, planted_findings(version), own)
    settings = {
        "AFFIDAVIT_BUNDLE": "new",
        "AFFIDAVIT_AGAINST": "base",
        "AFFIDAVIT_KEY_PEM": made.key_path.read_text(),
        "AFFIDAVIT_CERTIFICATE": str(made.certificate_path),
    }
    done = step("run.sh", **settings)
    assert done.returncode == 0, done.stderr
    assert "changed" in done.stdout
    result = read_difference((tmp_path / "new-difference" / "diff.json").read_bytes())
    assert result.counts["changed"] > 0
    assert result.new.trusted
    assert "sealed already" in step("run.sh", **settings).stdout
    policy = tmp_path / "policy.toml"
    policy.write_text(HEAD + "difference = { changed_at_most = 0 }\n")
    gate = settings | {"AFFIDAVIT_POLICY": str(policy), "AFFIDAVIT_BASELINE_BUNDLE": "base"}
    judged = step("gate.sh", **gate, AFFIDAVIT_DIFFERENCE="new-difference")
    assert (judged.returncode, "FAIL  r (error)" in judged.stdout) == (1, True), judged.stdout + judged.stderr
    # One that was not made is not asked: the rule is open, which is no pass either.
    assert "OPEN  r (error)" in step("gate.sh", **gate, AFFIDAVIT_DIFFERENCE="none").stdout


def test_the_files_of_both_services_call_the_steps() -> None:
    """Every step of the action is a file that is there and may be run; inputs that are used are declared."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    called = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    assert [re.findall(r"ci/(\w+\.sh)", line) for line in called] == [
        ["install.sh"],
        ["baseline.sh"],
        ["run.sh"],
        ["gate.sh"],
    ]
    for path in STEPS.glob("*.sh"):
        assert os.access(path, os.X_OK)
    used = set(re.findall(r"inputs\.([a-z0-9-]+)", (ROOT / "action.yml").read_text()))
    assert used == set(action["inputs"])
    workflow = yaml.safe_load((ROOT / "examples" / "workflow.yml").read_text())
    given = workflow["jobs"]["audit"]["steps"][1]["with"]
    assert set(given) <= set(action["inputs"])
    gitlab = (STEPS / "gitlab.yml").read_text()
    yaml.safe_load(gitlab)
    for name in ("install.sh", "run.sh", "baseline.sh", "gate.sh"):
        assert f"ci/{name}" in gitlab


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_steps_are_sound_shell() -> None:
    """Shellcheck finds nothing."""
    done = subprocess.run(
        ["shellcheck", *map(str, sorted(STEPS.glob("*.sh")))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
