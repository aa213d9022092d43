"""`affidavit verify`: check a sealed bundle, each check on its own line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from audit.errors import ExitCode

_MARK = {"pass": "PASS", "fail": "FAIL", "not checked": "  - "}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The signer's certificate (or its authority's), obtained outside the bundle.",
)
@click.option(
    "--trust-tsa", type=click.Path(path_type=Path, dir_okay=False), default=None, help="The TSA's certificate."
)
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def verify(*, bundle: Path, trust: Path | None, trust_tsa: Path | None, as_json: bool) -> int:
    """Check every byte of a sealed bundle, offline. Exit 0 if no check fails, 3 otherwise.

    Without --trust the answer is at best "intact, signer not trusted": anyone's seal gives that answer. The last line
    then names the fingerprint of whoever sealed.
    """
    from audit.signing.verify import verify_bundle

    result = verify_bundle(bundle, trusted=trust, trusted_tsa=trust_tsa, now=datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(result.as_json(), sort_keys=True, indent=2))
    else:
        for check in result.checks:
            click.echo(f"{_MARK[check.status.value]}  {check.name.value}: {check.detail}")
        click.echo(result.conclusion)
    return int(ExitCode.PASS if result.ok else ExitCode.EVIDENCE_INVALID)
