"""`affidavit gate` and `affidavit policy`, in process: exit codes, files, what is printed, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree
from markdown_it import MarkdownIt

from audit.cli.root import run
from audit.redaction import redact_bundle
from audit.signing.keys import Signer
from tests.exports_schemas import SARIF, json_problems, xml_problems
from tests.policy.conftest import HEAD, rule
from tests.redaction_making import write_bundle

HOSTILE = "]]> <script>alert(1)</script> [x](javascript:1) | `c` @all #1 {0} &lt; \\u202e \\u0007 :smile:"
WAIVER = '[[waiver]]\nrule = "r"\nreason = "known"\nowner = "R. Owner"\nexpires = 2999-12-31\n'
FAILING = "fidelity = { fvu_at_most = 0.01 }"
OPEN = "seal = { timestamp = true }"


@pytest.fixture(autouse=True)
def _own_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def put(sealed: Path, tmp_path: Path) -> Callable[..., int]:
    """Return what runs `affidavit gate` with the text of a policy."""

    def gate(text: str, *options: str, bundle: Path = sealed) -> int:
        path = tmp_path / "policy.toml"
        path.write_text(text, encoding="utf-8")
        return run(["gate", str(bundle), "--policy", str(path), *options])

    return gate


Put = Callable[..., int]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (rule("control = { }"), 0),
        (rule(FAILING), 1),
        (rule(OPEN), 1),
        (rule(f'severity = "warning"\n{FAILING}'), 0),
        (rule(f'severity = "warning"\n{OPEN}'), 0),
        (rule(FAILING) + WAIVER, 0),
        (rule(OPEN) + WAIVER, 0),
        (rule("difference = { changed_at_most = 0 }", more='baseline = "optional"\n'), 2),
        (rule("control = { }", more='baseline = "required"\n'), 2),
        (rule("control = { }", more='baseline = "optional"\n'), 0),
        (HEAD, 2),
    ],
)
def test_the_exit_code_is_the_verdict(text: str, code: int, put: Put) -> None:
    """Unresolved fails like a failure; a warning and a waiver let pass; a policy that asks nothing is an error."""
    assert put(text) == code


def test_a_line_a_rule(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its outcome, figures and the query; without --trust the output says that anyone may have sealed."""
    assert put(rule(FAILING) + WAIVER) == 0
    told = capsys.readouterr().out
    assert "WAIV  r (error): 2 of 2 points fail." in told
    assert "Waived until 2999-12-31 by R. Owner: known" in told
    assert "evidence: fidelity_moments" in told
    assert "anyone's seal gives this answer" in told
    assert told.endswith("gate passed: 1 fail, 1 waived\n")


def test_pinning_is_asked_of_the_command(put: Put, certificate: Path) -> None:
    """A policy may require it: without --trust unresolved, with it a pass, with another's certificate exit 3."""
    text = rule("seal = { pinned = true }")
    assert put(text) == 1
    assert put(text, "--trust", str(certificate)) == 0


def test_json_is_the_whole_verdict(put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """With every point and its figures."""
    assert put(rule(FAILING), "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is False
    [found] = told["verdict"]["rules"]
    assert [point["figures"]["value"] for point in found["points"]] == [0.231, 0.512]


@pytest.mark.parametrize("name", ["findings.json", "evidence.duckdb", "manifest.json", "attestation.sigstore.json"])
def test_a_tampered_bundle_is_never_judged(
    name: str, sealed: Path, tmp_path: Path, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3, never 0 or 1, and nothing on stdout; files are not written."""
    bundle = Path(shutil.copytree(sealed, tmp_path / "copy"))
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(bytes(data))
    out = tmp_path / "j.xml"
    assert put(rule("control = { }"), "--junit", str(out), bundle=bundle) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert not out.exists()


def test_another_signer_than_the_pinned_one_exits_3(put: Put, tmp_path: Path) -> None:
    """The seal holds, but is not the one that was asked for."""
    assert run(["keys", "new", "--out", str(tmp_path / "key"), "--name", "Another"]) == 0
    pinned = tmp_path / "key" / "certificate.pem"
    assert put(rule("control = { }"), "--trust", str(pinned)) == 3


def test_what_is_no_bundle_exits_2(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing folder, a report alone; a folder that only calls itself a difference is no evidence."""
    difference = tmp_path / "diff"
    difference.mkdir()
    (difference / "diff.json").write_text("{}")
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF-1.7")
    for place in (tmp_path / "absent", report):
        assert put(rule("control = { }"), bundle=place) == 2
    assert put(rule("control = { }"), bundle=difference) == 3
    assert "attestation readable" in capsys.readouterr().err


def test_a_base_is_verified_like_the_subject(
    put: Put, sealed: Path, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its statement is named; itself is refused; a tampered one exits 3."""
    text = rule("control = { }", more='baseline = "required"\n')
    base = tmp_path / "base"
    base.mkdir()
    write_bundle(base, signer)
    assert put(text, "--baseline", str(base)) == 0
    assert "compared with base, statement sha256:" in capsys.readouterr().out
    assert put(text, "--baseline", str(sealed)) == 2
    (base / "findings.json").write_bytes(b"{}")
    assert put(text, "--baseline", str(base)) == 3


def test_with_a_base_nothing_passes_that_was_not_compared(
    put: Put, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule about changes does not apply to a first release; where there is a base it is unresolved."""
    base = tmp_path / "base"
    base.mkdir()
    write_bundle(base, signer)
    text = rule("control = { }", more='baseline = "optional"\n')
    text += '[[rule]]\nid = "d"\nwhy = "w"\ndifference = { changed_at_most = 0 }\n'
    assert put(text) == 0
    assert "  -   d (error)" in capsys.readouterr().out
    assert put(text, "--baseline", str(base)) == 1
    assert "OPEN  d (error)" in capsys.readouterr().out


def test_a_redacted_copy_is_judged_where_no_text_is_needed(
    put: Put, sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rules over figures answer as for the original; a query of texts is unresolved."""
    copy = redact_bundle(sealed, tmp_path / "redacted", suites=(), concepts=()).folder
    assert put(rule("control = { }"), bundle=copy) == 0
    assert put(rule('sql = { select = "SELECT count(*) FROM prompt", at_least = 1 }'), bundle=copy) == 0
    assert put(rule("sql = { select = \"SELECT 1 FROM prompt WHERE text = 'x'\" }"), bundle=copy) == 1
    assert "which this copy withholds" in capsys.readouterr().out


REFUSED = [
    "DROP TABLE prompt",
    "SELECT 1; SELECT 2",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/*')",
    "COPY prompt TO '/tmp/stolen'",
    "ATTACH '/tmp/x' AS x",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA version",
    "SET enable_external_access = true",
    "CREATE MACRO a() AS 1",
    "CREATE VIEW a AS SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "WITH x AS (INSERT INTO prompt SELECT * FROM prompt RETURNING *) SELECT * FROM x",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "SELECT count(*) FROM range(100000000000) a, range(1000000) b",
    "SELECT no_such_column FROM prompt",
    "SELECT * FROM no_such_table",
    "not SQL at all",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_sql_reads_evidence_and_nothing_else(
    statement: str, put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Writing, reading files, settings, and what never ends: exit 2 from the gate and from lint, with the reason."""
    text = rule(f"sql = {{ select = {json.dumps(statement)} }}", more="sql_limit_s = 0.3\n")
    assert put(text) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "expected: one SELECT that reads the evidence" in told.err
    assert run(["policy", "lint", str(tmp_path / "policy.toml")]) == 2
    assert not Path("/tmp/stolen").exists()  # noqa: S108 - named by a statement that must not run


@pytest.mark.parametrize("statement", ["SELECT 1, 2", "SELECT 1 FROM prompt", "SELECT 'a'", "SELECT true"])
def test_a_bound_asks_for_one_number(statement: str, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    """Several columns or rows, texts and truths are errors of the policy: exit 2."""
    assert put(rule(f"sql = {{ select = {json.dumps(statement)}, at_least = 0 }}")) == 2
    assert "one row of one number" in capsys.readouterr().err


def _hostile() -> str:
    text = json.dumps(HOSTILE).replace("\\\\u", "\\u")
    rules = [FAILING, OPEN, "control = { }", f'severity = "warning"\n{FAILING}', "difference = { changed_at_most = 0 }"]
    made = [f'[[rule]]\nid = "r{n}"\nwhy = {text}\n{kind}\n' for n, kind in enumerate(rules)]
    waived = f'[[rule]]\nid = "w"\nwhy = {text}\n{FAILING}\n'
    waiver = f'[[waiver]]\nrule = "w"\nreason = {text}\nowner = {text}\nexpires = 2999-12-31\n'
    title = HEAD.replace('"Test"', text)
    return f'{title}baseline = "optional"\n{"".join(made)}{waived}{waiver}'


def test_files_for_pipelines_keep_their_schemas(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JUnit, SARIF and Markdown of a policy whose every text is hostile: valid, counted, and nothing but text."""
    paths = {name: tmp_path / name for name in ("junit", "sarif", "summary")}
    assert put(_hostile(), *(part for name, path in paths.items() for part in (f"--{name}", str(path)))) == 1
    assert "\u202e" not in capsys.readouterr().out
    junit, sarif, summary = (path.read_bytes() for path in paths.values())
    assert xml_problems(junit) == []
    assert json_problems(SARIF, sarif) == []
    suite = etree.fromstring(junit)[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "2",
        "errors": "0",
        "skipped": "3",
    }
    failures = suite.findall("testcase/failure")
    assert [failure.get("type") for failure in failures] == ["fail", "unresolved"]
    kinds = [result["kind"] for result in json.loads(sarif)["runs"][0]["results"]]
    assert kinds == ["fail", "fail", "pass", "fail", "notApplicable", "fail"]
    assert "suppressions" in json.loads(sarif)["runs"][0]["results"][5]
    page = MarkdownIt("commonmark").enable("table").render(summary.decode())
    assert "<script" not in page
    assert "javascript:1</a" not in page
    assert "<a " not in page
    assert page.count("<tr>") == 7
    for data in (junit, sarif, summary):
        assert "\u202e".encode() not in data
        assert b"\x07" not in data


def test_equal_verdicts_give_equal_files(put: Put, tmp_path: Path) -> None:
    """Nothing of them depends on the moment."""
    one, two = tmp_path / "1", tmp_path / "2"
    for path in (one, two):
        assert put(rule(FAILING), "--sarif", str(path)) == 1
    assert one.read_bytes() == two.read_bytes()


def test_explaining_decides_nothing(put: Put, sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 with each point of a rule that fails; without a bundle what it asks."""
    assert put(rule(FAILING) + WAIVER) == 0
    path = str(tmp_path / "policy.toml")
    capsys.readouterr()
    assert run(["policy", "explain", path]) == 0
    assert "leaves at most 0.01 of the variance unexplained" in capsys.readouterr().out
    assert run(["policy", "explain", path, str(sealed)]) == 0
    told = capsys.readouterr().out
    assert "FVU 0.231, at most 0.01" in told
    assert "waiver    until 2999-12-31 by R. Owner: known" in told
    assert run(["policy", "lint", path]) == 0


@pytest.mark.parametrize("name", ["healthcare", "finance", "defense"])
def test_the_policies_that_ship_can_be_used(
    name: str, put: Put, certificate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is linted, explained and put to a bundle; a rule about changes does not apply to a first release."""
    text = (Path(__file__).parents[2] / "templates" / "policies" / f"{name}.toml").read_text(encoding="utf-8")
    assert put(text, "--trust", str(certificate)) in {0, 1}
    told = capsys.readouterr().out
    assert "PASS  sealed-by-us (error)" in told
    assert "  -   nothing-changed (error)" in told
    assert run(["policy", "lint", str(tmp_path / "policy.toml")]) == 0
    assert run(["policy", "explain", str(tmp_path / "policy.toml")]) == 0


def test_the_gate_needs_no_model_library() -> None:
    """Neither torch nor what draws reports is imported by the gate."""
    code = (
        "import sys; import audit.cli.gate, audit.gate, audit.exports.gate_junit, audit.exports.gate_sarif,"
        " audit.exports.gate_summary, audit.policy.explaining;"
        " bad = {'torch', 'transformers', 'matplotlib', 'weasyprint', 'pandas', 'ray'} & set(sys.modules);"
        " sys.exit(', '.join(sorted(bad)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
