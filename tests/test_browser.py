"""The HTML report of the real audit in headless Chromium: no error, no request, and the table can be used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import SealedAudit

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--virtual-time-budget=4000",
]


@dataclass(frozen=True, slots=True)
class Opened:
    """A page as Chromium left it.

    Args:
        dom: the document after its scripts ran.
        console: the lines that the page or its policy wrote to the console.
        requests: network addresses that the page, not the browser itself, asked for.
    """

    dom: str
    console: tuple[str, ...]
    requests: tuple[str, ...]


def open_page(path: Path, profile: Path, *, fragment: str = "") -> Opened:
    """Open a file in a fresh headless Chromium."""
    assert CHROMIUM is not None, "Chromium is part of the test environment: apt-get install -y chromium"
    log = profile / "net.json"
    done = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            f"--log-net-log={log}",
            "--dump-dom",
            path.resolve().as_uri() + fragment,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | {"HOME": str(profile)},
    )
    console = tuple(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return Opened(done.stdout, console, requests_in(log))


def requests_in(log: Path) -> tuple[str, ...]:
    """Return the network addresses that a page asked for; the browser's own requests have no origin."""
    addresses = []
    for line in log.read_text().splitlines():
        if '"initiator":' in line:
            parameters = json.loads(line.rstrip(",").removesuffix("]"))["params"]
            if parameters["initiator"] != "not an origin" and parameters["url"].startswith("http"):
                addresses.append(parameters["url"])
    return tuple(dict.fromkeys(addresses))


@pytest.fixture(scope="module")
def opened(audit: SealedAudit, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Return the real report, opened."""
    return open_page(audit.folder / "report.html", tmp_path_factory.mktemp("chromium"))


def test_no_console_error_and_no_request(opened: Opened) -> None:
    """The strict policy refuses nothing that the page needs, and the page asks the network for nothing."""
    assert opened.console == ()
    assert opened.requests == ()


def test_a_page_that_asks_and_errs_is_noticed(tmp_path: Path) -> None:
    """The check above can fail."""
    page = tmp_path / "page.html"
    page.write_text("<img src='http://127.0.0.1:9/pixel.png'><script>console.error('wrong')</script>")
    seen = open_page(page, tmp_path / "profile")
    assert seen.requests == ("http://127.0.0.1:9/pixel.png",)
    assert len(seen.console) >= 1


def test_the_page_names_no_host_to_load_from(audit: SealedAudit) -> None:
    """No element of the page can load from a network address."""
    page = (audit.folder / "report.html").read_text()
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    loads = re.findall(r"""(?:src|srcset|poster|data|action)\s*=\s*["']?\s*(?!data:|#)([^"'\s>]+)""", markup)
    assert not [address for address in loads if "//" in address]
    assert not re.findall(r"url\(\s*[\"']?(?!data:|#)", markup)
    assert not re.findall(r"<link\b[^>]*href=[\"']?(?!data:)", markup)


def test_the_script_ran_and_charts_are_drawn(opened: Opened) -> None:
    """Sort buttons come from the script, which the policy admits by its hash; charts are SVG elements."""
    dom = opened.dom
    assert dom.count("<svg") >= 3
    assert "<button" in dom
    assert "represented" in dom


def test_every_row_of_findings_is_on_the_page(audit: SealedAudit, opened: Opened, tmp_path: Path) -> None:
    """The HTML holds each finding, whatever the PDF shortens: the first of a table at once, the others unpacked."""
    findings = [
        finding
        for concept in audit.result.findings.concepts
        for contrast in concept.contrasts
        for finding in contrast.findings
    ]
    whole = open_page(audit.folder / "report.html", tmp_path, fragment="#all-rows")
    assert whole.console == ()
    assert findings
    assert all(finding.id in whole.dom for finding in findings)
    assert whole.dom.count("<tbody data-group=") == len(findings) > opened.dom.count("<tbody data-group=")
    assert "more rows are packed" not in whole.dom
    assert re.search(r'<button type="button" class="open">Show all \d+ rows</button>', opened.dom)


def test_the_report_is_one_small_file(audit: SealedAudit) -> None:
    """Under 5 MB, with no script or style beside it."""
    size = (audit.folder / "report.html").stat().st_size
    assert size < 5_000_000
    assert not [path for path in audit.folder.iterdir() if path.suffix in {".js", ".css", ".woff2"}]
