"""`affidavit demo`: from nothing to a signed bundle about a real model."""

from __future__ import annotations

from pathlib import Path

import click

_NAME = "affidavit-demo"
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
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def demo(*, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Audit the embedded model with its shipped SAEs and the demonstration part of the three shipped suites.

    Needs no account and no key: the model comes from the package index once, and a self-signed demonstration key is
    made beside the bundle.
    """
    from datetime import UTC, datetime

    from audit.workspace import refuse_taken

    target = out or _free_name(Path.cwd())
    refuse_taken(target)

    from audit.cli.bar import progress
    from audit.cli.summary import print_result
    from audit.config import AuditConfig, CausalConfig, ProbeConfig
    from audit.pipeline import run_audit
    from audit.request import AuditRequest
    from audit.signing.keys import KEY_NAME, certificate_path, load_signer, new_sealing_key
    from reports.pdf import check_pdf_libraries

    check_pdf_libraries()
    now = datetime.now(UTC).replace(microsecond=0)
    keys = target.parent / _KEY_FOLDER
    if not (keys / KEY_NAME).exists():
        new_sealing_key(keys, "affidavit demonstration key", organisation=None, days=_KEY_DAYS, not_before=now)
    signer = load_signer(keys / KEY_NAME, certificate_path(keys), at=now)
    # Five minutes, not ten: shams on fewer scenarios, and pairs of features are left out. The report says both.
    causal = CausalConfig(sham_scenarios=2, screen_sample=20, pairs_per_mix=0)
    config = AuditConfig(probes=ProbeConfig(subset=_SUBSET), causal=causal)
    request = AuditRequest(config, target, signer, now, "affidavit demo")
    result = run_audit(request, progress=progress(quiet=quiet))
    print_result(result, as_json=as_json)
    if not as_json:
        click.echo(f"verify    affidavit verify {target} --trust {certificate_path(keys)}")


def _free_name(parent: Path) -> Path:
    candidate, number = parent / _NAME, 1
    while candidate.exists():
        number += 1
        candidate = parent / f"{_NAME}-{number}"
    return candidate
