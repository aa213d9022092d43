"""`affidavit verify`: check a sealed bundle, each check on its own line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit.errors import ExitCode
from audit.signing.checks import Check, CheckName, CheckStatus

if TYPE_CHECKING:
    from audit.signing.approvals import Approval
    from audit.signing.statement import Statement

_MARK = {"pass": "PASS", "fail": "FAIL", "not checked": "  - "}


@click.command()
@click.argument("bundle", metavar="BUNDLE|DIFF|REPORT.PDF", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The signer's certificate (or its authority's), obtained outside the bundle.",
)
@click.option(
    "--trust-tsa", type=click.Path(path_type=Path, dir_okay=False), default=None, help="The TSA's certificate."
)
@click.option(
    "--recompute",
    is_flag=True,
    help="Make reports and exports again, compute every figure again from the evidence, and compare. Needs no model.",
)
@click.option(
    "--suites",
    multiple=True,
    metavar="NAME|FOLDER",
    help="With --recompute: every suite of the audit, where one of them is not shipped with this version.",
)
@click.option(
    "--parent",
    "parents",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="With --recompute, of a difference: a bundle that it compared. Repeat it for each.",
)
@click.option(
    "--approvals",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The folder of approvals. Default: BUNDLE.approvals, beside the bundle.",
)
@click.option(
    "--trust-approver",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="The certificate of a person who approves (or its authority's), obtained outside the bundle.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def verify(
    *,
    bundle: Path,
    trust: Path | None,
    trust_tsa: Path | None,
    recompute: bool,
    suites: tuple[str, ...],
    parents: tuple[Path, ...],
    approvals: Path | None,
    trust_approver: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Check every byte of a sealed bundle or difference, offline. Exit 0 if no check fails, 3 otherwise.

    A redacted copy is checked against the statement that was signed over its original. Of a report.pdf alone its seal
    is checked, and what it carries; the rest is not checked. Approvals of a bundle are listed, each with its own line;
    one that does not hold is a failure.

    Without --trust the answer is at best "intact, signer not trusted": anyone's seal gives that answer. The last line
    then names the fingerprint of whoever sealed. With --recompute exit 4 says that nothing failed, but that figures,
    reports or exports could not be made again here.
    """
    from audit.cli.checking import Asked, check_place

    for option, values in (("--suites", suites), ("--parent", parents)):
        if values and not recompute:
            raise click.UsageError(f"{option} is used with --recompute only.")
    now = datetime.now(UTC)
    asked = Asked(now, trust, trust_tsa, recompute=recompute, suites=suites, parents=parents, quiet=as_json)
    result = check_place(bundle, asked)
    given = _approvals(bundle, approvals, result.statement, trust_approver, now)
    absent = [] if any(one.status is CheckStatus.PASS for one in given) else [str(path) for path in trust_approver]
    broken = bool(absent) or any(one.status is CheckStatus.FAIL for one in given)
    if as_json:
        record = {**result.as_json(), "approvals": [one.as_json() for one in given]}
        click.echo(json.dumps(record, sort_keys=True, indent=2))
    else:
        for check in result.checks:
            click.echo(f"{_MARK[check.status.value]}  {check.name.value}: {check.detail}")
        for one in given:
            click.echo(f"{_MARK[one.status.value]}  approval {one.file}: {one.detail}")
        for path in absent:
            click.echo(f"FAIL  approval: none that holds by {path}")
        click.echo(result.conclusion)
        if broken:
            click.echo("an approval does not hold: see above")
    if broken or not result.ok:
        return int(ExitCode.EVIDENCE_INVALID)
    return int(ExitCode.ENVIRONMENT if recompute and not_made(result.checks) else ExitCode.PASS)


def not_made(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that --recompute asks for and that could not be made."""
    asked = {CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE, CheckName.RECOMPUTED}
    return [check for check in checks if check.name in asked and check.status is CheckStatus.NOT_CHECKED]


def _approvals(
    bundle: Path, folder: Path | None, statement: Statement | None, trusted: tuple[Path, ...], now: datetime
) -> tuple[Approval, ...]:
    from audit.signing.approvals import approvals_folder, read_approvals

    if folder is not None and not folder.is_dir():
        raise click.UsageError(f"--approvals {folder}: there is no such folder.")
    if statement is None:
        if bundle.is_file() and (folder is not None or trusted):
            raise click.UsageError("Approvals are of a bundle: give its folder, not a report alone.")
        return ()
    return read_approvals(folder or approvals_folder(bundle), statement, trusted=trusted, now=now)
