"""What `run` and `demo` print when a bundle is sealed."""

from __future__ import annotations

import json
from pathlib import Path

import click

from audit.pipeline import AuditResult
from audit.records import DifferenceResult
from audit.records import as_json as to_json
from audit.signing.checks import printable


def print_result(
    result: AuditResult, *, as_json: bool, difference: tuple[Path, DifferenceResult] | None = None
) -> None:
    """Print where the bundle is and what it says: JSON, or a few lines.

    Args:
        result: the audit.
        as_json: one JSON document.
        difference: folder and result of its comparison with a base; only the JSON names it here.
    """
    findings = result.findings
    readings = {
        f"{concept.id}/{contrast.contrast.value}/{contrast.sae}": contrast.reading.value
        for concept in findings.concepts
        for contrast in concept.contrasts
    }
    if as_json:
        record: dict[str, object] = {
            "bundle": str(result.folder),
            "findings_digest": result.findings_digest,
            "statement_digest": result.statement_digest,
            "saes": {
                sae.record.name: {
                    "digest": sae.record.digest,
                    "colour": sae.fidelity.colour.value,
                    "precision": to_json(sae.precision) if sae.precision is not None else None,
                }
                for sae in findings.saes
            },
            "ladder": findings.ladder,
            "readings": readings,
            "policy": None if result.policy is None else result.policy.conclusion,
        }
        if difference is not None:
            folder, changes = difference
            record["difference"] = {
                "folder": str(folder),
                "counts": changes.counts,
                "concepts": {part.id: part.verdict.value for part in changes.concepts},
                "mixes": {part.id: part.verdict.value for part in changes.mixes},
            }
        click.echo(json.dumps(record, sort_keys=True, indent=2))
        return
    click.echo(f"model     {findings.model.name} ({findings.model.digest[:19]})")
    for sae in findings.saes:
        click.echo(f"SAE       {sae.record.name} ({sae.record.digest[:19]}), instrument {sae.fidelity.colour.value}")
        if sae.precision is not None:
            same, compared = sae.precision.same_sign, sae.precision.compared
            shared = f"{100 * sae.precision.shared_firings:.1f}% of the firings as in fp32"
            click.echo(f"          {shared}, {same} of {compared} findings with the same sign")
    width = max(len(name) for name in readings)
    for name, reading in readings.items():
        click.echo(f"          {name:<{width}}  {reading}")
    click.echo(f"findings  {result.findings_digest}")
    if result.policy is not None:
        click.echo(printable(f"policy    {result.policy.policy}: {result.policy.conclusion}"))
    click.echo(f"report    {result.folder / 'report.pdf'}")
    click.echo(f"          {result.folder / 'report.html'}")
