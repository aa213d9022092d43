"""`affidavit labels`: explanations of features that others wrote."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def labels() -> None:
    """Labels of features from elsewhere; audits print them as not scored."""


@labels.command("import")
@click.argument("exports", type=_FILE, nargs=-1, required=True, metavar="EXPORT...")
@click.option("--sae", "source", required=True, help="Whose features they explain: any source of docs/sae-formats.md.")
@click.option("--out", type=_FILE, required=True, help="The new file, for `sae.labels` of an audit.")
def import_export(*, exports: tuple[Path, ...], source: str, out: Path) -> None:
    """Turn a Neuronpedia export into a file of labels that is bound to the SAE's weights.

    EXPORT is JSON or JSON lines, plain or .gz; the batches of one source are given together.
    """
    from audit.capture.sae_sources import load_sae
    from audit.labels import import_labels, write_labels
    from audit.signing.checks import printable

    record = load_sae(source).record
    found = import_labels(exports, record)
    write_labels(out, found)
    click.echo(f"wrote     {out}: {len(found.labels):,} labels for {record.latents:,} features")
    click.echo(printable(f"from      {found.model}/{found.layer}"))
    click.echo(f"bound to  {printable(record.name)}, {record.digest}")
    for reason in found.left_out:
        click.echo(f"left out  {reason.count:,}: {reason.reason}")
    click.echo("next      name the file in `sae.labels` of the audit's configuration")
