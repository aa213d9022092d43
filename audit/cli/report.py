"""`affidavit report`: print the reports of a bundle again. Needs no model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from audit.errors import OutputError, UsageError


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
    if out.exists() or out.is_symlink():
        raise UsageError(item=str(out), expected="a new folder", found="it exists", hint="Name another one.")
    from audit.printing import html_report, pdf_report, read_record
    from audit.signing.bundle_files import REPORT_HTML, REPORT_PDF

    record = read_record(bundle)
    made = {REPORT_HTML: html_report(record)}
    if not html_only:
        made[REPORT_PDF] = pdf_report(record)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as parent:
            folder = Path(parent) / out.name
            folder.mkdir()
            for name, content in made.items():
                (folder / name).write_bytes(content)
            shutil.move(folder, out)
    except OSError as error:
        raise OutputError(
            item=str(out),
            expected="room to write the reports",
            found=error.strerror or type(error).__name__,
            hint="Free space, or name a folder that may be written.",
        ) from error
    for name, content in made.items():
        click.echo(f"{out / name}: {len(content):,} bytes")
    if not html_only:
        click.echo("The PDF is not sealed; the bundle's own report.pdf is.", err=True)
