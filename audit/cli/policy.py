"""`affidavit policy`: check a policy, and say in plain words what it asks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from audit.errors import ConfigError, UsageError

# How long a query of a policy may run on evidence without rows, where nothing takes time but a query without an end.
_LINT_LIMIT_S = 2.0


@click.group()
def policy() -> None:
    """Check policies for `affidavit gate`, and explain them."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def lint(*, file: Path) -> None:
    """Check a policy FILE: keys, thresholds, clauses, waivers; its SQL is run on evidence without rows."""
    from audit.evidence.store import check_statement
    from audit.policy.files import read_policy

    read = read_policy(file, today=datetime.now(UTC).date())
    refused = []
    for rule in read.rules:
        if rule.sql is None:
            continue
        try:
            check_statement(rule.sql.select, limit_s=min(_LINT_LIMIT_S, read.content.sql_limit_s))
        except UsageError as error:
            refused.append(f"rule {rule.id}, sql: expected {error.expected}; found {error.found}")
    if refused:
        raise ConfigError(
            item=f"policy {file}: {len(refused)} violation{'s' if len(refused) > 1 else ''}",
            expected="SQL that may run on evidence",
            found="\n            ".join(refused),
            hint="Tables and columns: docs/bundle.md. A rule reads evidence and nothing else.",
        )
    click.echo(f"{file}: {len(read.rules)} rules, {len(read.content.waiver)} waivers, {read.digest}")


@policy.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option(
    "--trust", type=click.Path(path_type=Path, dir_okay=False), default=None, help="The signer's certificate."
)
def explain(*, file: Path, bundle: Path | None, trust: Path | None) -> None:
    """Say what each rule of a policy FILE asks; with a BUNDLE also what it says to each, point by point.

    This explains and decides nothing: the exit code is 0 whatever the rules say. `affidavit gate` decides.
    """
    from audit.cli.checking import Asked, check_place
    from audit.gate import Compared, gate, kind_of
    from audit.policy.explaining import explain as words
    from audit.policy.explaining import explain_rule, explain_verdict
    from audit.policy.files import read_policy
    from audit.signing.checks import printable

    now = datetime.now(UTC)
    read = read_policy(file, today=now.date())
    if bundle is None:
        for each in words(read):
            click.echo(printable(each))
        return
    kind_of(bundle)
    compared = Compared("no base: this only explains")
    verdict = gate(bundle, read, check_place(bundle, Asked(now, trust)), today=now.date(), compared=compared)
    for rule, found in zip(read.rules, verdict.rules, strict=True):
        for each in (*explain_rule(read, rule), *explain_verdict(found), ""):
            click.echo(printable(each))
    click.echo(verdict.conclusion)
