"""`affidavit suites`: what can be asked of a model, how good it is, and how to bring one's own."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def suites() -> None:
    """List, show, check, begin and import probe suites."""


@suites.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_suites(*, as_json: bool) -> None:
    """List the shipped suites with their concepts and mixes."""
    from probes.listing import suite_summary
    from probes.loader import builtin_names, load_suite

    loaded = [load_suite(name) for name in builtin_names()]
    if as_json:
        click.echo(json.dumps([suite_summary(suite) for suite in loaded], sort_keys=True, indent=2))
        return
    for suite in loaded:
        click.echo(f"{suite.id}  {suite.title}, version {suite.version}, {suite.digest[:19]}")
        for concept in suite.concepts:
            click.echo(f"  {concept.id}  {concept.title}: {len(concept.scenarios)} scenarios")
        for mix in suite.mixes:
            click.echo(f"  {mix.id}  {mix.title}: mix of {len(mix.scenarios)} scenarios")


@suites.command()
@click.argument("suite")
@click.argument("part", required=False, metavar="[CONCEPT|MIX]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, every scenario included.")
def show(*, suite: str, part: str | None, as_json: bool) -> None:
    """Show a suite's concepts and mixes, or every scenario of one CONCEPT or MIX."""
    from audit.errors import UsageError
    from audit.signing.checks import printable
    from probes.listing import describe, suite_content
    from probes.loader import load_suite

    loaded = load_suite(suite)
    parts = loaded.parts
    chosen = [item for item in parts if part in (None, item.id)]
    if not chosen:
        raise UsageError(
            item=f"concept or mix {part!r}",
            expected=f"one of {', '.join(item.id for item in parts)}",
            found="no such part of the suite",
            hint=f"Run `affidavit suites show {suite}`.",
        )
    if as_json:
        click.echo(json.dumps(suite_content(loaded, only=part), sort_keys=True, indent=2, ensure_ascii=False))
        return
    for item in chosen:
        # A suite may come from anywhere: nothing in it may steer the terminal.
        click.echo("\n".join(printable(line) for line in describe(item, scenarios=part is not None)))


@suites.command()
@click.argument("names", nargs=-1, metavar="[SUITE]...")
@click.option("--tokenizer", default="default", help="Model whose tokenizer counts: folder, GGUF file or hub id.")
@click.option("--json", "wants_json", is_flag=True, help="Print JSON.")
def lint(*, names: tuple[str, ...], tokenizer: str, wants_json: bool) -> int:
    """Check suites as data: balance, leakage, duplicates, splits, outcomes, content. All shipped ones by default.

    Suites that belong together are named together: duplicates are searched over all of them. Exit code 1 when there
    is an error, 2 when a file breaks the schema.
    """
    from audit.capture.model import load_token_counter
    from audit.errors import ExitCode
    from audit.records import as_json
    from audit.signing.checks import printable
    from probes.lint import lint as check
    from probes.listing import lint_lines
    from probes.loader import builtin_names, load_suites

    loaded = load_suites(names or builtin_names())
    count = load_token_counter(tokenizer, say=lambda line: click.echo(line, err=True))
    report = check(loaded, count, tokenizer=tokenizer)
    if wants_json:
        click.echo(json.dumps(as_json(report), sort_keys=True, indent=2))
    else:
        click.echo("\n".join(printable(line) for line in lint_lines(report)))
    return int(ExitCode.GATE_FAILED if report.errors else ExitCode.PASS)


@suites.command()
@click.argument("suite")
@click.option("--tokenizer", default="default", help="Model whose tokenizer counts: folder, GGUF file or hub id.")
def card(*, suite: str, tokenizer: str) -> None:
    """Print a suite's data card in Markdown: counts, figures of the lint, sources, limits."""
    from audit.capture.model import load_token_counter
    from probes.data_card import data_card
    from probes.loader import builtin_names, load_suite, load_suites

    # A mix may name concepts of the other shipped suites.
    if suite in builtin_names():
        loaded = next(one for one in load_suites(builtin_names()) if one.id == suite)
    else:
        loaded = load_suite(suite)
    count = load_token_counter(tokenizer, say=lambda line: click.echo(line, err=True))
    click.echo(data_card(loaded, count, tokenizer=tokenizer), nl=False)


@suites.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--concept", required=True, help="Id of the concept: its file's name.")
@click.option("--title", required=True, help="The concept's title.")
def new(*, folder: Path, concept: str, title: str) -> None:
    """Begin a suite in FOLDER, or a concept in one that is there; `lint` lists the texts that are still empty."""
    from probes.scaffold import write_suite

    written = write_suite(folder, concept=concept, title=title)
    for path in written:
        click.echo(f"wrote     {path}")
    if len(written) == 1:
        click.echo(f"to do     add {concept} to `concepts` in {folder / 'suite.yaml'}")
    click.echo(f"next      write the texts, then: affidavit suites lint {folder}")


@suites.command("import")
@click.argument("table", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="The suite's folder."
)
@click.option(
    "--map", "pairs", multiple=True, required=True, metavar="FIELD=COLUMN",
    help="concept, control, neutral; also id, split, cue, cue_free.",
)  # fmt: skip
@click.option("--concept", required=True, help="Id of the concept.")
@click.option("--title", required=True, help="The concept's title.")
@click.option("--definition", required=True, help="What the concept means, in a sentence.")
@click.option("--rule", required=True, help="The law, guideline or standard that makes it sensitive.")
@click.option("--outcome", default=None, help="A question with {text} that is answered Yes for the concept, No else.")
@click.option("--disclose", is_flag=True, help="Let bundles and reports print the texts. Default: they are withheld.")
def import_table(
    *,
    table: Path,
    folder: Path,
    pairs: tuple[str, ...],
    concept: str,
    title: str,
    definition: str,
    rule: str,
    outcome: str | None,
    disclose: bool,
) -> None:
    """Turn TABLE (.csv, .jsonl, .parquet; a row a scenario) into a suite, its texts withheld from reports."""
    from audit.errors import UsageError
    from probes.importing import FIELDS, ImportRequest, import_suite

    mapping: dict[str, str] = {}
    for pair in pairs:
        field, sign, column = pair.partition("=")
        if not sign or field not in FIELDS or field in mapping:
            raise UsageError(
                item=f"--map {pair}",
                expected=f"FIELD=COLUMN, each field once, of {', '.join(FIELDS)}",
                found=pair,
                hint="For example --map concept=harmful_text.",
            )
        mapping[field] = column
    request = ImportRequest(table, mapping, folder, concept, title, definition, rule, outcome, withheld=not disclose)
    for path in import_suite(request):
        click.echo(f"wrote     {path}")
    click.echo(f"texts     {'disclosed' if disclose else 'withheld from bundles and reports'}")
    click.echo(f"next      affidavit suites lint {folder}")
