"""`affidavit export`: one export of a bundle, made again from its record. Needs no model."""

from __future__ import annotations

import os
from pathlib import Path

import click

from audit.errors import UsageError

_FORMATS = ("sarif", "junit", "summary", "oscal", "cyclonedx")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--format", "wanted", type=click.Choice(_FORMATS), required=True, help="Which form of the record.")
@click.option(
    "--out", type=click.Path(path_type=Path, allow_dash=True), required=True, help="A new file, or - for stdout."
)
def export(*, bundle: Path, wanted: str, out: Path) -> None:
    """Write the record of a BUNDLE in the form of another tool: SARIF, JUnit, Markdown, OSCAL or CycloneDX.

    A bundle holds all five in its folder exports/, under its seal. This makes one again, also from bundles of earlier
    versions that have none. Equal bundles give equal bytes. Nothing says whether the bundle is intact: verify it.
    """
    to_stdout = str(out) == "-"
    if not to_stdout and os.path.lexists(out):
        raise UsageError(item=str(out), expected="a new file", found="it exists", hint="Name another one.")
    if not to_stdout and out.resolve().is_relative_to(bundle.resolve()):
        raise UsageError(
            item=f"--out {out}",
            expected="a file outside the bundle",
            found="one inside it",
            hint="A sealed bundle is never changed: name another place.",
        )
    from audit.exports.formats import FILES, ExportFormat
    from audit.printing import export_of, read_record
    from audit.signing.bundle_files import REDACTION
    from audit.workspace import write_whole

    chosen = ExportFormat(wanted)
    if os.path.lexists(bundle / REDACTION):
        raise UsageError(
            item=str(bundle),
            expected="an original bundle",
            found="a redacted copy",
            hint=f"Take {FILES[chosen]} of the copy, which was made from what it shows.",
        )
    data = export_of(read_record(bundle), chosen)
    if to_stdout:
        click.echo(data, nl=False)
        return
    write_whole(out, data)
    click.echo(f"{out}: {len(data):,} bytes")
