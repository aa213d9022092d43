"""`affidavit sql`: ask the evidence."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import click

from audit.errors import UsageError

Value = str | int | float | list[str] | list[int]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("statement", required=False)
@click.option("--finding", metavar="ID", help="Compute the effect of one finding again.")
@click.option("--query", metavar="NAME", help="Run a query that the report names.")
@click.option("--set", "pairs", metavar="NAME=VALUE", multiple=True, help="Bind a parameter of the query; repeat it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a row.")
def sql(
    *,
    bundle: Path,
    statement: str | None,
    finding: str | None,
    query: str | None,
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run one SQL STATEMENT on a bundle's evidence, read-only, or a query of this tool.

    The view `activation` (sae, prompt, position, latent, activation) holds every active latent at every token.
    """
    from audit.evidence.store import answer, named_query
    from audit.signing.checks import printable

    if [statement, finding, query].count(None) != 2 or (pairs and query is None):
        raise UsageError(
            item="affidavit sql",
            expected="one of: a statement, --finding ID, --query NAME with its parameters",
            found="none of them"
            if statement == finding == query
            else "more than one of them, or --set without --query",
            hint="Name the query that the report names, or write one SELECT.",
        )
    if finding is not None:
        result = answer(bundle, named_query("finding"), {"finding": finding})
        if not result.rows:
            raise UsageError(
                item=f"finding {finding}",
                expected="the id of a finding of this audit",
                found="no such finding in its evidence",
                hint="Copy it from the report, or ask: SELECT finding FROM finding.",
            )
    elif query is not None:
        result = answer(bundle, named_query(query), dict(map(_parameter, pairs)))
    else:
        result = answer(bundle, statement or "")
    if as_json:
        _refuse_twins(result.columns)
        for row in result.rows:
            record = dict(zip(result.columns, map(_json, row), strict=True))
            click.echo(json.dumps(record, default=str, allow_nan=False))
        return
    cells = [[printable(_text(value)) for value in row] for row in (result.columns, *result.rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(result.columns))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _parameter(pair: str) -> tuple[str, Value]:
    """Return the name and the value of NAME=VALUE: a number or a list where it reads as one, else text."""
    name, mark, text = pair.partition("=")
    if not mark:
        raise UsageError(
            item=f"--set {pair}", expected="NAME=VALUE", found="no =", hint="For example: --set concept=dosing_error."
        )
    try:
        value: Value = json.loads(text)
    except ValueError:
        return name, text
    return name, value if isinstance(value, int | float | list) else text


def _refuse_twins(columns: tuple[str, ...]) -> None:
    """Refuse two columns of one name: a JSON object would keep only the last."""
    twins = [name for name, count in Counter(columns).items() if count > 1]
    if twins:
        raise UsageError(
            item=f"column {twins[0]!r}",
            expected="a name of its own for each column under --json",
            found="the name twice",
            hint="Rename one: SELECT a.x AS ax, b.x AS bx.",
        )


def _json(value: object) -> object:
    # JSON has no NaN and no infinity.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    return value


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    # Six figures are enough to read; --json gives every digit.
    return f"{value:.6g}" if isinstance(value, float) else str(value)
