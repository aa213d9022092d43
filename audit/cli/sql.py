"""`affidavit sql`: ask the evidence."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("statement")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a row.")
def sql(*, bundle: Path, statement: str, as_json: bool) -> None:
    """Run one SQL STATEMENT on a bundle's evidence, read-only.

    The view `activation` (sae, prompt, position, latent, activation) holds every active latent at every token.
    """
    from audit.evidence.store import answer

    result = answer(bundle, statement)
    if as_json:
        for row in result.rows:
            click.echo(json.dumps(dict(zip(result.columns, row, strict=True)), default=str))
        return
    cells: list[list[str]] = [list(result.columns)]
    cells += [[_text(value) for value in row] for row in result.rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(result.columns))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    # Six figures are enough to read; --json gives every digit.
    return f"{value:.6g}" if isinstance(value, float) else str(value)
