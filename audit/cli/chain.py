"""`affidavit chain`: a series of audits in order, and whether a link is missing, forked or moved."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit.errors import ExitCode

if TYPE_CHECKING:
    from audit.signing.series import Link

_DIGEST_SHOWN = len("sha256:") + 16


@click.command()
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False, exists=True)
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The signer's certificate (or its authority's), obtained outside the bundles.",
)
@click.option("--tail", is_flag=True, help="The series may begin later than with number 1.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def chain(*, folders: tuple[Path, ...], trust: Path | None, tail: bool, as_json: bool) -> int:
    """Show a series of audits and check it: every bundle whole, and every link to the one before.

    DIR is a sealed bundle, or a folder whose folders are. Bundles are linked when they are made:
    `affidavit run --previous BUNDLE`. Exit 0 if the series is whole, 3 otherwise.
    """
    from audit.cli.checking import Asked, check_place
    from audit.signing.series import order_links

    now = datetime.now(UTC)
    asked = Asked(now, trust)
    results = {str(folder): check_place(folder, asked) for given in folders for folder in _bundles(given)}
    links = order_links(results, tail=tail)
    whole = all(link.ok for link in links)
    if as_json:
        click.echo(json.dumps({"ok": whole, "links": [link.as_json() for link in links]}, sort_keys=True, indent=2))
    else:
        for link in links:
            _print_link(link)
        bundles = "1 audit" if len(links) == 1 else f"{len(links)} audits"
        pinned = "" if all(link.result.trusted for link in links) else "; signer not trusted: give --trust"
        click.echo(f"{bundles}, unbroken{pinned}" if whole else f"BROKEN: see above, {bundles}")
    return int(ExitCode.PASS if whole else ExitCode.EVIDENCE_INVALID)


def _bundles(given: Path) -> list[Path]:
    """Return the folder itself if it is a bundle, otherwise the bundles in it."""
    from audit.errors import UsageError
    from audit.signing.bundle_files import ATTESTATION, FINDINGS, MANIFEST, REPORT_PDF

    if os.path.lexists(given / ATTESTATION):
        return [given]
    # A bundle whose attestation was taken away is no reason to pass over it.
    signs = (ATTESTATION, FINDINGS, MANIFEST, REPORT_PDF)
    found = [path for path in sorted(given.iterdir()) if any(os.path.lexists(path / name) for name in signs)]
    if not found:
        raise UsageError(
            item=str(given),
            expected="a sealed bundle, or a folder of sealed bundles",
            found=f"no {ATTESTATION} in it, nor in its folders",
            hint="Name the folders that `affidavit run` wrote.",
        )
    return found


def _print_link(link: Link) -> None:
    from audit.signing.checks import CheckStatus, printable

    statement = link.result.statement
    if statement is None:
        click.echo(f"?  {printable(link.name)}: {link.result.verdict}")
    else:
        digest = statement.digest[:_DIGEST_SHOWN]
        when = statement.signed_at.isoformat()
        click.echo(f"{statement.sequence}  {digest}  {when}  {printable(link.name)}: {link.result.conclusion}")
    for check in link.result.checks:
        if check.status is CheckStatus.FAIL:
            click.echo(f"   FAIL  {check.name.value}: {check.detail}")
    for problem in link.problems:
        click.echo(f"   FAIL  link: {printable(problem)}")
