"""`affidavit shapley`: exploratory interactions of many features in a mix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from audit.coalitions import MixCoalitions

_ROWS_PER_ORDER = 12


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--mix", required=True, help="Id of a mix of the audit's suites.")
@click.option("--features", default=None, help="Up to 15. Default: the 8 strongest confirmed for the mix's concepts.")
@click.option("--sae", default=None, help="Name of the SAE, where the features do not give its layer.")
@click.option("--concept", default=None, help="Whose question is asked. Default: the first of the mix that has one.")
@click.option("--order", type=click.IntRange(2, 3), default=2, show_default=True, help="The largest interaction.")
@click.option(
    "--budget",
    type=click.IntRange(16, 32768),
    default=None,
    help="Coalitions that may be run. Default: all of them up to 10 features, else 1024.",
)
@click.option("--model", default=None, help="Folder, GGUF file or Hugging Face id, if not the default model.")
@click.option("--sae-source", default=None, help="Where the SAE is, if not a shipped one.")
@click.option("--suites", multiple=True, metavar="SUITE", help="Every suite of the audit, if one is not shipped.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def shapley(
    *,
    bundle: Path,
    mix: str,
    features: str | None,
    sae: str | None,
    concept: str | None,
    order: int,
    budget: int | None,
    model: str | None,
    sae_source: str | None,
    suites: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Show Shapley-type interactions of features in the answer to a mix: exploratory, no test behind it.

    Model, SAE and suites must be those of the BUNDLE, by digest. Needs the extra `shapley`.
    """
    import json

    from audit.cli.bar import progress
    from audit.coalitions import ShapleyRequest, mix_coalitions
    from audit.records import as_json as to_json
    from audit.reopening import Sources
    from audit.signing.checks import printable

    request = ShapleyRequest(bundle, mix, features, sae, concept, order, budget, Sources(model, sae_source, suites))
    found = mix_coalitions(request, progress=progress(quiet=quiet))
    if as_json:
        click.echo(json.dumps(to_json(found), indent=1))
        return
    for line in _lines(found):
        click.echo(printable(line))


def _lines(found: MixCoalitions) -> Iterator[str]:
    """Yield the indices as lines, the strongest of each order."""
    yield found.heading
    yield f"mix       {found.mix}, question of {found.question}, {found.n_scenarios} confirmation scenarios"
    yield f"features  {', '.join(map(str, found.latents))} of {found.sae}"
    ran = "all" if found.exact else "estimated from"
    yield f"index     {found.index} up to order {found.order}, {ran} {found.coalitions:,} coalitions"
    yield f"outcome   {found.untouched:+.3f} untouched, {found.lowered:+.3f} with all of them at zero (nats)"
    for order in range(1, found.order + 1):
        own = [one for one in found.values if len(one.latents) == order]
        yield ""
        yield f"order {order}"
        for one in own[:_ROWS_PER_ORDER]:
            yield f"  {one.value:+.4f}  {' x '.join(map(str, one.latents))}"
        if len(own) > _ROWS_PER_ORDER:
            yield f"  and {len(own) - _ROWS_PER_ORDER} smaller ones; --json has all"
