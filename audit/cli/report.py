"""`affidavit report`: print the reports of a bundle again. Needs no model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A new folder for report.html and report.pdf."
)
@click.option("--html-only", is_flag=True, help="Leave the PDF out.")
def report(*, bundle: Path, out: Path, html_only: bool) -> None:
    """Print the reports of a BUNDLE again from its record, without the model.

    The seal of the bundle is over its own report.pdf: this PDF is not sealed. Equal bundles give equal bytes.
    """
    from audit.printing import html_report, pdf_report, read_record
    from audit.signing.bundle_files import REPORT_HTML, REPORT_PDF
    from audit.workspace import new_folder

    with new_folder(out) as folder:
        record = read_record(bundle)
        made = {REPORT_HTML: html_report(record)}
        if not html_only:
            made[REPORT_PDF] = pdf_report(record)
        for name, content in made.items():
            (folder / name).write_bytes(content)
    for name, content in made.items():
        click.echo(f"{out / name}: {len(content):,} bytes")
    if not html_only:
        click.echo("The PDF is not sealed; the bundle's own report.pdf is.", err=True)
