"""`affidavit redact`: a copy of a bundle in which texts are withheld, under the original seal."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The copy's folder; it must not exist.")
@click.option("--suite", "suites", multiple=True, metavar="ID", help="Withhold a suite's texts. Repeatable.")
@click.option(
    "--concept",
    "concepts",
    multiple=True,
    metavar="ID",
    help="Withhold the texts of a concept, with the mixes that name it, or of a mix. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what is withheld as JSON.")
def redact(*, bundle: Path, out: Path, suites: tuple[str, ...], concepts: tuple[str, ...], as_json: bool) -> None:
    """Write a copy of a sealed BUNDLE with prompts withheld: digest and length instead of text.

    Without --suite and --concept every text is withheld. The copy still verifies against the original seal; its reports
    are made again and carry no seal of their own. Whoever has the model and the SAE can test guesses against the
    activations, which stay.
    """
    import json

    from audit.redaction import redact_bundle
    from audit.signing.checks import printable

    made = redact_bundle(bundle, out, suites=suites, concepts=concepts)
    if as_json:
        click.echo(json.dumps(made.as_json(), sort_keys=True, indent=2))
        return
    withheld = made.withheld
    gone = withheld.prompts + withheld.labels + withheld.continuations
    click.echo(f"wrote     {out}")
    click.echo(
        f"withheld  {gone:,} of {withheld.texts:,} texts: {withheld.prompts:,} prompts, {withheld.labels:,} labels,"
        f" {withheld.continuations:,} continuations"
    )
    click.echo(printable(f"of        {', '.join(withheld.parts)}"))
    click.echo(f"verify    affidavit verify {out} --trust CERTIFICATE")
