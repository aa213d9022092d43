"""`affidavit verify`: check a sealed bundle, each check on its own line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click

from audit.errors import ExitCode
from audit.signing.checks import Check, CheckName, CheckStatus

_MARK = {"pass": "PASS", "fail": "FAIL", "not checked": "  - "}


@click.command()
@click.argument("bundle", metavar="BUNDLE|REPORT.PDF", type=click.Path(path_type=Path))
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
    help="Print the reports again and compute every figure again from the evidence, and compare. Needs no model.",
)
@click.option(
    "--suites",
    multiple=True,
    metavar="NAME|FOLDER",
    help="With --recompute: every suite of the audit, where one of them is not shipped with this version.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def verify(
    *,
    bundle: Path,
    trust: Path | None,
    trust_tsa: Path | None,
    recompute: bool,
    suites: tuple[str, ...],
    as_json: bool,
) -> int:
    """Check every byte of a sealed bundle, offline. Exit 0 if no check fails, 3 otherwise.

    A redacted copy is checked against the statement that was signed over its original. Of a report.pdf alone its seal
    is checked, and what it carries; the rest is not checked.

    Without --trust the answer is at best "intact, signer not trusted": anyone's seal gives that answer. The last line
    then names the fingerprint of whoever sealed. With --recompute exit 4 says that nothing failed, but that figures or
    reports could not be made again here.
    """
    from audit.signing.bundle_files import REDACTION
    from audit.signing.lone_report import is_lone_report, verify_report

    if suites and not recompute:
        raise click.UsageError("--suites is used with --recompute only.")
    now = datetime.now(UTC)
    if is_lone_report(bundle):
        if recompute:
            raise click.UsageError("--recompute needs the bundle: the evidence does not lie in the PDF.")
        result = verify_report(bundle, trusted=trust, trusted_tsa=trust_tsa, now=now)
    elif os.path.lexists(bundle / REDACTION):
        # Its evidence is read, which takes DuckDB: a bundle is checked without.
        from audit.redaction import verify_redacted

        result = verify_redacted(bundle, trusted=trust, now=now, render=recompute)
    else:
        from audit.signing.verify import verify_bundle

        result = verify_bundle(bundle, trusted=trust, trusted_tsa=trust_tsa, now=now)
        if recompute:
            from audit.cli.bar import progress
            from audit.recomputation.checks import recheck

            result = recheck(bundle, result, suites=suites, progress=progress(quiet=as_json))
    if as_json:
        click.echo(json.dumps(result.as_json(), sort_keys=True, indent=2))
    else:
        for check in result.checks:
            click.echo(f"{_MARK[check.status.value]}  {check.name.value}: {check.detail}")
        click.echo(result.conclusion)
    if not result.ok:
        return int(ExitCode.EVIDENCE_INVALID)
    return int(ExitCode.ENVIRONMENT if recompute and _left(result.checks) else ExitCode.PASS)


def _left(checks: Iterable[Check]) -> bool:
    """Return whether a check that --recompute asks for could not be made."""
    asked = {CheckName.PRINTED_TEXT, CheckName.RECOMPUTED}
    return any(check.name in asked and check.status is CheckStatus.NOT_CHECKED for check in checks)
