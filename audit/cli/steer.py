"""`affidavit steer`: hold features down and see what the model answers, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from audit.records import Dose, Estimate, Suppression

_DOSES = (0.5, 1.0, 2.0)
_COLUMNS = (
    "dose",
    "outcome",
    "95%",
    "beside",
    "random sets",
    "control outcome",
    "control KL",
    "random",
    "control loss",
    "random",
    "texts changed",
)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--suppress", "features", required=True, metavar="FEATURES", help="Such as 15:77,15:1234; or 77,1234.")
@click.option("--concept", default=None, help="Whose question is asked. Default: the one they are confirmed for.")
@click.option("--sae", default=None, help="Name of the SAE, where FEATURES do not give its layer.")
@click.option(
    "--dose",
    "doses",
    type=click.FloatRange(0, 1000, min_open=True),
    multiple=True,
    default=_DOSES,
    show_default=True,
    help="In units of the largest activation in the audit. Repeatable.",
)
@click.option("--new-tokens", type=click.IntRange(1, 4096), default=24, show_default=True, help="Written at most.")
@click.option("--model", default=None, help="Folder, GGUF file or Hugging Face id, if not the default model.")
@click.option("--sae-source", default=None, help="Where the SAE is, if not a shipped one.")
@click.option(
    "--suites",
    multiple=True,
    metavar="SUITE",
    help="Every suite of the audit, by name or folder, if one is not shipped: bundles do not hold them. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def steer(
    *,
    bundle: Path,
    features: str,
    concept: str | None,
    sae: str | None,
    doses: tuple[float, ...],
    new_tokens: int,
    model: str | None,
    sae_source: str | None,
    suites: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Suppress features of an audit while its model reads and writes.

    Model, SAE and suites must be those of the BUNDLE, by digest. The outcome of the concept's own question is shown
    beside the cost on the matched control prompts, and beside sets of random features pushed in the same way.
    """
    import json

    from audit.bundle_steering import SteerRequest, steer_bundle
    from audit.cli.bar import progress
    from audit.records import as_json as to_json
    from audit.reopening import Sources
    from audit.signing.checks import printable

    request = SteerRequest(
        bundle=bundle,
        features=features,
        concept=concept,
        sae=sae,
        doses=tuple(dict.fromkeys(doses)),
        new_tokens=new_tokens,
        sources=Sources(model, sae_source, suites),
    )
    found = steer_bundle(request, progress=progress(quiet=quiet))
    if as_json:
        click.echo(json.dumps(to_json(found), indent=1))
        return
    for line in _lines(found):
        click.echo(printable(line))


def _lines(found: Suppression) -> Iterator[str]:
    """Yield a suppression as lines: what was held down, the table, the texts."""
    maxima = ", ".join(f"{n} (max {most:.2f})" for n, most in zip(found.latents, found.maxima, strict=True))
    yield f"suppress  {maxima} of {found.sae}"
    yield f"concept   {found.concept}, {found.n_scenarios} confirmation scenarios"
    yield ""
    rows = [_COLUMNS, *(_row(dose) for dose in found.doses)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield "Changed minus untouched, nats. Outcome: logit of target minus foil, on the concept's own questions."
    yield "KL and loss: on the matched control prompts, the cost. Random: sets of as many random live features, pushed"
    yield f"as far, on {_scenarios(found)}; beside: the outcome on the same ones, to be held against them."
    for text in found.continuations:
        yield ""
        yield f"dose {text.dose:g}  {_one_line(text.prompt)}"
        yield f"  untouched: {_one_line(text.untouched)}"
        yield f"  changed:   {_one_line(text.changed)}"
    if not found.continuations:
        yield ""
        yield "No texts are printed: the suite withholds its texts."


def _scenarios(found: Suppression) -> str:
    most = max(dose.n_beside for dose in found.doses)
    return "1 scenario" if most == 1 else f"{most} scenarios"


def _row(dose: Dose) -> tuple[str, ...]:
    return (
        f"{dose.dose:g}",
        f"{dose.outcome.value:+.3f}",
        _interval(dose.outcome),
        f"{dose.outcome_beside:+.3f}",
        f"{min(dose.sham_outcomes):+.3f} to {max(dose.sham_outcomes):+.3f}",
        f"{dose.control_outcome.value:+.3f}",
        f"{dose.control_kl.value:.3f}",
        f"{dose.sham_control_kl:.3f}",
        f"{dose.control_loss.value:+.3f}",
        f"{dose.sham_control_loss:+.3f}",
        f"{dose.texts_changed:.0%}",
    )


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "none"
    return f"{estimate.low:+.3f} to {estimate.high:+.3f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
