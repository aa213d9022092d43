"""The chart of one concept's confirmation effects, and its text alternative."""

from __future__ import annotations

from audit.records import ConceptResult, ContrastResult, Estimate, Finding, Rung
from reports.figures import EffectPanel, EffectRow, effect_chart
from reports.numbers import NO_INTERVAL, decimal, interval, signed, visible
from reports.view import Chart
from reports.words import CONTRAST_NAMES

CHARTED_FEATURES = 12


def strongest_first(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return findings by rung, then by the size of their effect, then by latent."""
    return tuple(sorted(findings, key=lambda f: (-f.rung.height, -abs(f.d_z.value), f.latent)))


def effects_chart(concept: ConceptResult, *, chart_id: str) -> Chart | None:
    """Return the effects of one concept's features under every contrast, or None when no contrast was analysed."""
    if not concept.contrasts:
        return None
    panels = tuple(_panel(result) for result in concept.contrasts)
    title = f"Effects of the selected features on “{visible(concept.title)}”, with 95% intervals"
    charted = max((len(panel.rows) for panel in panels), default=0)
    longest = max((len(result.findings) for result in concept.contrasts), default=0)
    limit = f" The {CHARTED_FEATURES} strongest features of a contrast are drawn." if longest > charted else ""
    return Chart(
        id=chart_id,
        svg=effect_chart(
            panels,
            chart_id=chart_id,
            title=f"{title}. {' '.join(_panel_words(result) for result in concept.contrasts)}",
            description="The numbers are in the tables of the same section.",
        ),
        title=title,
        description=" ".join(_panel_words(result) for result in concept.contrasts),
        caption=(
            f"{title}. Confirmation split only. Beyond the dashed lines lies what random directions do not reach."
            f" Filled: confirmed; open: not confirmed. The numbers are in the tables that follow.{limit}"
        ),
    )


def _panel(result: ContrastResult) -> EffectPanel:
    return EffectPanel(
        title=CONTRAST_NAMES[result.contrast],
        rows=tuple(
            EffectRow(
                label=f"feature {finding.latent}",
                effect=finding.d_z,
                confirmed=finding.rung.height >= Rung.CONFIRMED.height,
            )
            for finding in strongest_first(result.findings)[:CHARTED_FEATURES]
        ),
        probe=result.probe.d_z,
        random=result.random_control.best_d_z,
    )


def _panel_words(result: ContrastResult) -> str:
    best = next(iter(strongest_first(result.findings)), None)
    feature = (
        "no feature was selected"
        if best is None
        else f"the strongest feature is {best.latent} with {signed(best.d_z.value)} {_spoken(best.d_z)}"
    )
    return (
        f"{CONTRAST_NAMES[result.contrast]}: the linear probe has {signed(result.probe.d_z.value)} "
        f"{_spoken(result.probe.d_z)}, {feature}, and the best random direction {_random_words(result)}."
    )


def _spoken(estimate: Estimate) -> str:
    text = interval(estimate)
    return text if text == NO_INTERVAL else f"in {text}"


def _random_words(result: ContrastResult) -> str:
    best = result.random_control.best_d_z
    return "was not measured" if best is None else f"reaches {decimal(best)}"
