"""`affidavit diff`: what changed between two sealed audits, what is equivalent, what cannot be told; sealed itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit.cli.sealing_key import signing_options

if TYPE_CHECKING:
    from audit.records import DifferenceResult, InstrumentPair, PartDifference

_BUNDLE = click.Path(path_type=Path)
# Two decimals are shown: what is smaller would read as nothing.
_LEAST_SHOWN = 0.01


@click.command()
@click.argument("base", type=_BUNDLE)
@click.argument("new", type=_BUNDLE)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder for the difference.")
@click.option(
    "--noise",
    multiple=True,
    type=_BUNDLE,
    help="A further bundle of the base's model, in another batch order or dtype; a change must exceed it. Repeatable.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The signer's certificate (or its authority's), obtained outside the bundles.",
)
@signing_options
@click.option("--tsa", default=None, metavar="URL", help="An RFC 3161 authority: the seal gets its timestamp (B-T).")
@click.option("--json", "as_json", is_flag=True, help="Print diff.json.")
def diff(
    *,
    base: Path,
    new: Path,
    out: Path,
    noise: tuple[Path, ...],
    trust: Path | None,
    key: str,
    cert: Path | None,
    pkcs11_module: Path | None,
    passphrase_env: str | None,
    tsa: str | None,
    as_json: bool,
) -> None:
    """Compare two sealed bundles, BASE and NEW, by their evidence, and seal the result. Needs no model.

    Every bundle is verified first. Each row ends as changed, equivalent (shown to differ by less than the margin) or
    inconclusive. Exit 0 when the comparison was made, whatever it says: a gate judges it. Exit 2 when the two are not
    comparable, with every reason; 3 when one of them was tampered with.
    """
    from audit.cli.bar import progress
    from audit.cli.sealing_key import open_signer
    from audit.config import SealConfig, SealLevel, check_seal
    from audit.differences.publishing import Parents, write_difference
    from audit.signing.bundle_files import DIFFERENCE

    now = datetime.now(UTC)
    seal = SealConfig() if tsa is None else SealConfig(level=SealLevel.B_T, tsa=tsa)
    check_seal(seal, origin="--tsa")
    signer = open_signer(key, cert, passphrase_env=passphrase_env, pkcs11_module=pkcs11_module, at=now)
    names = [base.name, new.name, *(f"--noise {place.name}" for place in noise)]
    result = write_difference(
        Parents(base, new, noise, trust),
        out,
        signer,
        now=now,
        command=" ".join(["affidavit diff", *names, f"--out {out.name}"]),
        seal=seal,
        progress=progress(quiet=as_json),
    )
    if as_json:
        click.echo((out / DIFFERENCE).read_bytes(), nl=False)
        return
    print_difference(result, out)


def print_difference(result: DifferenceResult, folder: Path) -> None:
    """Print the answer, a line a concept, and where the reports are."""
    from audit.signing.checks import printable

    for name, parent in (("base", result.base), ("new", result.new)):
        trusted = "" if parent.trusted else ", signer not trusted"
        click.echo(printable(f"{name:<10}{parent.model} ({parent.model_digest[:19]}, {parent.dtype}){trusted}"))
    for pair in result.instruments:
        click.echo(printable(f"SAE       {pair.base}: {_instrument(pair)}"))
    width = max((len(part.id) for part in (*result.concepts, *result.mixes)), default=0)
    for part in (*result.concepts, *result.mixes):
        least = "" if part.detectable is None else f"; {_least(part.detectable)} could be seen"
        click.echo(printable(f"{part.verdict.value:<16}{part.id:<{width}}  {part.reason}{least}{_beside(part)}"))
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in result.counts.items())
    click.echo(f"rows      {counts}")
    if not result.noise:
        click.echo("noise     floor not measured; give --noise")
    click.echo(f"report    {folder / 'report.pdf'}")
    click.echo(f"          {folder / 'report.html'}")


def _beside(part: PartDifference) -> str:
    if part.outlying:
        moved = "no other moved" if part.ratio is None else f"{part.ratio:.1f} times as far as the others"
        return f"; OUTLYING: {moved} ({part.respect}), p = {part.ratio_p:.2g}"
    return "" if part.ratio is None else f"; {part.ratio:.1f} times as far as the others ({part.respect})"


def _least(detectable: float) -> str:
    if not detectable:
        return "any change"
    return f"a change of {detectable:.2f} SD" if detectable >= _LEAST_SHOWN else f"a change under {_LEAST_SHOWN} SD"


def _instrument(pair: InstrumentPair) -> str:
    if not pair.comparable:
        return f"not comparable: {pair.reason}"
    if pair.matching is None:
        return "the same on both"
    found = pair.matching
    return (
        f"against {pair.new}: {found.matched:,} of {found.live_base:,} latents matched,"
        f" {found.unmatched_base:,} and {found.unmatched_new:,} unmatched (which is not new)"
    )
