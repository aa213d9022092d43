"""`affidavit approve`: a person's signed statement about a sealed bundle or difference, beside it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from audit.cli.sealing_key import signing_options


@click.command()
@click.argument("bundle", metavar="BUNDLE|DIFF", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The person's printed name.")
@click.option("--meaning", required=True, help="What the signature means, such as: review, approval.")
@signing_options
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The sealer's certificate, obtained outside the bundle: approve only what it sealed.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The folder of approvals. Default: BUNDLE.approvals, beside the bundle.",
)
def approve(
    *,
    bundle: Path,
    name: str,
    meaning: str,
    key: str,
    cert: Path | None,
    pkcs11_module: Path | None,
    passphrase_env: str | None,
    trust: Path | None,
    out: Path | None,
) -> None:
    """Approve a sealed bundle or difference with a person's own key: name, time and meaning (21 CFR 11.50, 11.70).

    The statement is linked by digest. The bundle is checked first and stays as it is. `affidavit verify` lists its
    approvals.
    """
    from datetime import UTC, datetime

    from audit import __version__
    from audit.cli.sealing_key import open_signer
    from audit.errors import EvidenceError, UsageError
    from audit.signing.approvals import approvals_folder, write_approval
    from audit.signing.bundle_files import DIFFERENCE
    from audit.signing.checks import CheckStatus
    from audit.signing.verify import verify_bundle, verify_difference

    now = datetime.now(UTC).replace(microsecond=0)
    signer = open_signer(key, cert, passphrase_env=passphrase_env, pkcs11_module=pkcs11_module, at=now)
    verify = verify_difference if os.path.lexists(bundle / DIFFERENCE) else verify_bundle
    result = verify(bundle, trusted=trust, now=now)
    if not result.ok or result.statement is None:
        wrong = next(check for check in result.checks if check.status is CheckStatus.FAIL)
        raise EvidenceError(
            item=str(bundle),
            expected="a bundle whose checks all hold",
            found=f"{wrong.name.value}: {wrong.detail}",
            hint="Approve an intact bundle only. Nothing was signed.",
        )
    if out is not None and out.resolve().is_relative_to(bundle.resolve()):
        raise UsageError(
            item=f"--out {out}",
            expected="a folder outside the bundle",
            found="one inside it",
            hint="A sealed bundle is never changed: leave --out out, or name another folder.",
        )
    path = write_approval(
        out or approvals_folder(bundle),
        result.statement,
        signer,
        name=name,
        meaning=meaning,
        signed_at=now,
        tool_version=__version__,
    )
    click.echo(f"approval  {path}")
    click.echo(f"of        {result.statement.digest}, sealed by {result.fingerprint}")
    click.echo(f"by        {name}: {meaning}, {now.isoformat()}")
