"""`affidavit plan`: seal what will be measured, and by which thresholds, before anything is."""

from __future__ import annotations

from pathlib import Path

import click

from audit.cli.sealing_key import signing_options


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The plan's file.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), default=None, help="audit.toml.")
@signing_options
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def plan(
    *,
    out: Path,
    config: Path | None,
    key: str,
    cert: Path | None,
    pkcs11_module: Path | None,
    passphrase_env: str | None,
    quiet: bool,
) -> None:
    """Seal a plan: model, SAEs, suites, thresholds and code, by digest. The model is loaded but not run.

    `affidavit run --plan` then refuses an audit in which anything differs, the bundle carries the plan, and its reports
    say when the plan was sealed.
    """
    from datetime import UTC, datetime

    from audit import __version__
    from audit.cli.bar import progress
    from audit.cli.sealing_key import open_signer
    from audit.config import AuditConfig, load_config
    from audit.errors import OutputError
    from audit.signing.detached import write_detached
    from audit.signing.plan import plan_statement
    from audit.signing.statement import SignerBlock
    from probes.loader import load_suites

    if out.exists():
        raise OutputError(
            item=str(out), expected="a new file", found="one that exists", hint="A plan is never changed; name another."
        )
    settings = load_config(config) if config is not None else AuditConfig()
    suites = load_suites(settings.probes.suites, subset=settings.probes.subset)
    now = datetime.now(UTC).replace(microsecond=0)
    signer = open_signer(key, cert, passphrase_env=passphrase_env, pkcs11_module=pkcs11_module, at=now)

    from audit.inputs import read_inputs
    from audit.planning import planned

    inputs = read_inputs(suites, settings, progress(quiet=quiet))
    statement = plan_statement(
        planned(inputs, settings), signer=SignerBlock.of(signer.certificate), signed_at=now, version=__version__
    )
    write_detached(out, statement, signer)
    click.echo(f"plan      {out}")
    click.echo(f"digest    {statement.digest}")
    click.echo(f"sealed    {now.isoformat()}, by {signer.certificate.fingerprint}")
    click.echo("Publish the digest now, where its date can be shown later: the time above is this machine's clock.")
