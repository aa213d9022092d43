"""A policy that is put to the findings before they are sealed, and what the report prints of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audit.cli.root import run
from audit.gate import judge_unsealed
from audit.policy.files import Policy
from audit.printing import Record, html_report, read_record
from audit.recomputation.policy import policy_problem
from audit.records import GateVerdict, RuleOutcome
from audit.signing.bundle_files import POLICY
from tests.planting import save_model, save_sae, save_suite
from tests.policy.conftest import TODAY, rule

WAIVER = '[[waiver]]\nrule = "r"\nreason = "A <small> test"\nowner = "R. Owner"\nexpires = 2999-12-31\n'


@pytest.fixture
def put(sealed: Path, policy: Callable[[str], Policy]) -> Callable[[str], GateVerdict]:
    """Return what puts the text of a policy to the small bundle as if it were not sealed yet."""
    record = read_record(sealed)

    def judged(text: str) -> GateVerdict:
        return judge_unsealed(sealed, policy(text), record.findings, record.run, today=TODAY)

    return judged


def test_no_rule_quotes_a_text(put: Callable[[str], GateVerdict]) -> None:
    """The answer is printed in redacted copies too: a query that reads texts stays open, one that counts does not."""
    read = put(rule('sql = { select = "SELECT text FROM prompt" }')).rules[0]
    assert read.outcome is RuleOutcome.UNRESOLVED
    assert (
        put(rule('sql = { select = "SELECT count(*) FROM prompt", at_least = 1 }')).rules[0].outcome is RuleOutcome.PASS
    )


def test_what_comes_after_is_not_judged(put: Callable[[str], GateVerdict]) -> None:
    """A rule about the seal, and one about a base, beside one that applies."""
    text = rule("control = { }", more='baseline = "required"\n')
    text += '[[rule]]\nid = "s"\nwhy = "w"\nseal = { pinned = true }\n'
    text += '[[rule]]\nid = "d"\nwhy = "w"\ndifference = { changed_at_most = 0 }\n'
    outcomes = [each.outcome for each in put(text).rules]
    assert outcomes[1:] == [RuleOutcome.NOT_APPLICABLE] * 2
    assert outcomes[0] is not RuleOutcome.NOT_APPLICABLE


def test_the_report_prints_rules_and_waivers(sealed: Path, put: Callable[[str], GateVerdict]) -> None:
    """Cover, chapter, and of a waiver reason, owner and last day, as text; without a policy no chapter."""
    record = read_record(sealed)
    verdict = put(rule("fidelity = { fvu_at_most = 0.001 }") + WAIVER)
    page = html_report(_with(record, verdict)).decode()
    assert "Verdict against policy: passed" in page
    for said in ("What the policy says", "R. Owner", "A &lt;small&gt; test", "2999-12-31", "broken, waived"):
        assert said in page, said
    plain = html_report(record).decode()
    assert "Verdict against policy: no policy applied" in plain
    assert "What the policy says" not in plain


def test_an_edited_verdict_is_caught(sealed: Path, put: Callable[[str], GateVerdict], tmp_path: Path) -> None:
    """T: the same policy, another answer: the evidence gives the first one."""
    text = rule("fidelity = { fvu_at_most = 0.001 }")
    record, verdict = read_record(sealed), put(text)
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("evidence.duckdb", "findings.json", "manifest.json"):
        (folder / name).write_bytes((sealed / name).read_bytes())
    (folder / POLICY).write_text(text)
    assert policy_problem(folder, record) == ""
    assert policy_problem(folder, _with(record, verdict)) == ""
    forged = replace(verdict, rules=(replace(verdict.rules[0], outcome=RuleOutcome.PASS),))
    assert re.search(r"otherwise than it is: r$", policy_problem(folder, _with(record, forged)))
    (folder / POLICY).write_text(rule("fidelity = { fvu_at_most = 0.5 }"))
    assert "otherwise than it is" in policy_problem(folder, _with(record, verdict))
    (folder / POLICY).unlink()
    assert "cannot be put" in policy_problem(folder, _with(record, verdict))


def _with(record: Record, verdict: GateVerdict) -> Record:
    return replace(record, run=replace(record.run, policy=verdict))


def test_an_audit_with_a_policy_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle is sealed, exit 1 says that the policy does not pass, and every check holds; in a copy too."""
    save_model(tmp_path / "model")
    save_sae(tmp_path / "sae")
    save_suite(tmp_path / "suite")
    config, policy_file, bundle = tmp_path / "audit.toml", tmp_path / "policy.toml", tmp_path / "bundle"
    config.write_text(
        f'[model]\nsource = "{tmp_path / "model"}"\n[sae]\nsources = ["{tmp_path / "sae"}"]\n'
        f'[probes]\nsuites = ["{tmp_path / "suite"}"]\n[causal]\nbudget = "none"\n'
    )
    policy_file.write_text(rule('coverage = { concepts = ["direction", "unknown"] }'))
    assert run(["keys", "new", "--out", str(tmp_path / "key"), "--name", "Test"]) == 0
    key = str(tmp_path / "key" / "key.pem")
    asked = [
        "run",
        "--config",
        str(config),
        "--key",
        key,
        "--out",
        str(bundle),
        "--policy",
        str(policy_file),
        "--quiet",
    ]
    assert run(asked) == 1
    assert "gate FAILED: 1 fail" in capsys.readouterr().out
    assert (bundle / POLICY).read_bytes() == policy_file.read_bytes()
    assert run(["verify", str(bundle), "--recompute", "--suites", str(tmp_path / "suite")]) == 0
    assert run(["redact", str(bundle), "--out", str(tmp_path / "copy")]) == 0
    assert run(["verify", str(tmp_path / "copy")]) == 0
