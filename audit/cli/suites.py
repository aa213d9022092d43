"""`affidavit suites`: what can be asked of a model."""

from __future__ import annotations

import json

import click


@click.group()
def suites() -> None:
    """List and show probe suites."""


@suites.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_suites(*, as_json: bool) -> None:
    """List the shipped suites with their concepts."""
    from probes.loader import builtin_names, load_suite

    loaded = [load_suite(name) for name in builtin_names()]
    if as_json:
        listed = [
            {
                "id": suite.id,
                "title": suite.title,
                "domain": suite.domain,
                "version": suite.version,
                "digest": suite.digest,
                "concepts": [
                    {"id": concept.id, "title": concept.title, "scenarios": len(concept.scenarios)}
                    for concept in suite.concepts
                ],
            }
            for suite in loaded
        ]
        click.echo(json.dumps(listed, sort_keys=True, indent=2))
        return
    for suite in loaded:
        click.echo(f"{suite.id}  {suite.title}, version {suite.version}, {suite.digest[:19]}")
        for concept in suite.concepts:
            click.echo(f"  {concept.id}  {concept.title}: {len(concept.scenarios)} scenarios")


@suites.command()
@click.argument("suite")
@click.argument("concept", required=False)
def show(*, suite: str, concept: str | None) -> None:
    """Show a suite's concepts, or every scenario of one CONCEPT."""
    from audit.errors import UsageError
    from probes.loader import load_suite

    loaded = load_suite(suite)
    chosen = [item for item in loaded.concepts if concept in (None, item.id)]
    if not chosen:
        raise UsageError(
            item=f"concept {concept!r}",
            expected=f"one of {', '.join(item.id for item in loaded.concepts)}",
            found="no such concept",
            hint=f"Run `affidavit suites show {suite}`.",
        )
    for item in chosen:
        click.echo(f"{item.title} ({item.id})\n{item.definition}")
        for rule in item.rules:
            click.echo(f"  {rule.name}: {rule.clause}")
        click.echo(f"  why: {item.why}")
        for scenario in item.scenarios if concept else ():
            click.echo(f"{scenario.id} [{scenario.split.value}]")
            for arm, text in scenario.arms.items():
                click.echo(f"  {arm.value}: {text}")
