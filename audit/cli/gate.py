"""`affidavit gate`: put a sealed bundle to a policy, for people and for pipelines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit.errors import EnvironmentProblem, ExitCode, UsageError

if TYPE_CHECKING:
    from audit.cli.checking import Asked
    from audit.records import GateVerdict, RuleVerdict
    from audit.signing.checks import Check

_MARK = {"pass": "PASS", "fail": "FAIL", "unresolved": "OPEN", "not applicable": "  - "}


@click.command()
@click.argument("subject", metavar="BUNDLE|DIFF", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The policy.toml; it comes from outside the bundle.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The signer's certificate (or its authority's), obtained outside the bundle.",
)
@click.option(
    "--trust-tsa", type=click.Path(path_type=Path, dir_okay=False), default=None, help="The TSA's certificate."
)
@click.option("--recompute", is_flag=True, help="Verify with --recompute first. Needs no model, but minutes.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The sealed bundle of the release before, where the policy asks for one.",
)
@click.option(
    "--difference",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The sealed difference from the release before to this bundle: rules about changes are answered from it.",
)
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write a JUnit case for each rule.")
@click.option("--sarif", type=click.Path(path_type=Path, dir_okay=False), help="Write a SARIF result for each rule.")
@click.option("--summary", type=click.Path(path_type=Path, dir_okay=False), help="Write the answer as Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def gate(
    *,
    subject: Path,
    policy_file: Path,
    trust: Path | None,
    trust_tsa: Path | None,
    recompute: bool,
    baseline: Path | None,
    difference: Path | None,
    junit: Path | None,
    sarif: Path | None,
    summary: Path | None,
    as_json: bool,
) -> int:
    """Put a sealed bundle to a policy. Exit 0 if it passes, 1 if a rule of severity error does not.

    The seal is checked first: exit 3 if it does not hold, and no rule is put. Exit 2: the policy cannot be used, or no
    rule of it applies. A rule that cannot be answered is `unresolved`, which is never a pass.
    """
    from audit.cli.checking import Asked, check_place
    from audit.gate import Compared, compared_by, kind_of
    from audit.gate import gate as put
    from audit.policy.files import read_policy
    from audit.policy.subjects import SubjectKind

    now = datetime.now(UTC)
    policy = read_policy(policy_file, today=now.date())
    if kind_of(subject) is SubjectKind.DIFFERENCE and (baseline is not None or difference is not None):
        raise click.UsageError("A difference names its base itself: leave --baseline and --difference out.")
    if baseline is not None and difference is not None:
        raise click.UsageError("Give --baseline or --difference: a difference names its base itself.")
    asked = Asked(now, trust, trust_tsa, recompute=recompute, quiet=as_json)
    seal = check_place(subject, asked)
    if recompute and seal.ok:
        _require_recomputed(subject, seal.checks)
    plainly = Asked(now, trust, trust_tsa)
    compared = Compared(_base(baseline, subject, plainly)) if baseline is not None else None
    if difference is not None:
        compared = compared_by(difference, check_place(difference, plainly), new=seal)
    verdict = put(subject, policy, seal, today=now.date(), compared=compared)
    _write(verdict, {"junit": junit, "sarif": sarif, "summary": summary})
    if as_json:
        from audit.records import as_json as to_json

        record = {"passed": verdict.passed, "conclusion": verdict.conclusion, "verdict": to_json(verdict)}
        click.echo(json.dumps(record, sort_keys=True, indent=2))
    else:
        _print(verdict, pinned=trust is not None)
    return int(ExitCode.PASS if verdict.passed else ExitCode.GATE_FAILED)


def _print(verdict: GateVerdict, *, pinned: bool) -> None:
    from audit.signing.checks import printable

    click.echo(printable(f"policy    {verdict.policy} ({verdict.policy_digest[:19]}), judged on {verdict.judged_on}"))
    click.echo(printable(f"subject   {verdict.subject}, statement {verdict.subject_digest[:19]}"))
    unpinned = "" if pinned else ": anyone's seal gives this answer, give --trust"
    click.echo(printable(f"seal      {verdict.seal}{unpinned}"))
    click.echo(printable(f"baseline  {verdict.baseline}"))
    for rule in verdict.rules:
        click.echo(printable(f"{_mark(rule)}  {rule.id} ({rule.severity.value}): {rule.words}"))
        click.echo(printable(f"      evidence: {' '.join(rule.query.split())}"))
    click.echo(verdict.conclusion)


def _mark(rule: RuleVerdict) -> str:
    if rule.waived:
        return "WAIV"
    return _MARK[rule.outcome.value] if rule.stops or not rule.broken else "WARN"


def _base(baseline: Path, subject: Path, asked: Asked) -> str:
    """Return the base in words, after checking its seal as strictly as the subject's."""
    from audit.cli.checking import check_place
    from audit.gate import require_intact

    if baseline.resolve() == subject.resolve():
        raise UsageError(
            item=str(baseline),
            expected="the bundle of the release before",
            found="the bundle that is judged",
            hint="A release is not compared with itself. Give another bundle, or none.",
        )
    seal = check_place(baseline, asked)
    require_intact(baseline, seal)
    return f"{baseline.name}, statement {seal.statement.digest if seal.statement is not None else ''}"


def _require_recomputed(subject: Path, checks: Iterable[Check]) -> None:
    """Raise where something that --recompute asks for could not be made again."""
    from audit.cli.verify import not_made

    left = not_made(checks)
    if left:
        raise EnvironmentProblem(
            item=str(subject),
            expected="reports, exports and figures that can be made again here",
            found="; ".join(f"{check.name.value}: {check.detail}" for check in left),
            hint="Use the version of affidavit that made the bundle, or leave --recompute out.",
        )


def _write(verdict: GateVerdict, wanted: Mapping[str, Path | None]) -> None:
    """Write each file that was asked for; none is left half-written."""
    if not any(wanted.values()):
        return
    from audit.exports.gate_junit import gate_junit
    from audit.exports.gate_sarif import gate_sarif
    from audit.exports.gate_summary import gate_summary
    from audit.workspace import write_whole

    writers = {"junit": gate_junit, "sarif": gate_sarif, "summary": gate_summary}
    for name, path in wanted.items():
        if path is not None:
            write_whole(path, writers[name](verdict))
