"""The control test: a set of features held down, what it does to the answer, and what it costs elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import Continuation, Dose, Estimate, Suppression
from reports.causal_figures import DosePanel, DosePoint, dose_chart
from reports.contrasts import estimate_cell
from reports.features import Names, cut_words, headed
from reports.language import N_, _
from reports.numbers import count, decimal, interval, plain, plural, signed, visible
from reports.queries import DOSES
from reports.view import Cell, Chart, Column, Passage, Row, Table

PRINTED_SETS = 3
PRINTED_CONTINUATIONS = 3
CHARTED_SETS = 3
_ID = "suppression"
_HEADING = N_("Control: features held down while the model answers (intervention)")
_NONE = N_(
    "No set of features was held down: the control test needs features that change the answer. So nothing is said about"
    " whether the answer can be controlled through them."
)


def control_passage(suppressions: Sequence[Suppression], names: Names) -> Passage:
    """Return the doses with their cost and the texts; where nothing was held down, one sentence."""
    if not suppressions:
        return Passage(_ID, _(_HEADING), missing=_(_NONE))
    return Passage(
        _ID,
        _(_HEADING),
        paragraphs=(
            _(
                "If the features explain the answer, holding them down should move it more than holding down"
                " random features does, and cost little on prompts without the concept. The effect and its cost"
                " stand side by side; an effect within the band of random features shows nothing. The features"
                " became causal on these very questions, so the size of the effect is biased upwards; random sets"
                " ran on fewer scenarios ({scenarios}), and only the set's own mean on the same ones compares with"
                " them.",
                scenarios=_scenarios(suppressions),
            ),
            _(
                "Here below 0 is a fall; in the table of single features a fall is above 0. The push is far larger"
                " than what a feature does in these prompts: it is subtracted at every word, whether the feature"
                " fires or not, and is no estimate of the feature's own effect."
            ),
            *(_verdict(one, names) for one in suppressions[:CHARTED_SETS]),
        ),
        charts=(_chart(suppressions, names),),
        tables=(_doses(suppressions, names), _texts(suppressions, names)),
    )


def _verdict(one: Suppression, names: Names) -> str:
    """Return whether holding the set down moves the concept's answer apart from the others, at the largest dose."""
    dose = max(one.doses, key=lambda dose: dose.dose)
    numbers = _(
        "at dose {dose} the answer changes by {change} on prompts of the concept and by {control} on the matched ones"
        " without it",
        dose=f"{dose.dose:g}",
        change=signed(dose.outcome.value),
        control=signed(dose.control_outcome.value),
    )
    if _overlap(dose.outcome, dose.control_outcome):
        return _(
            "{name}: not control of the concept, {numbers}, which is not told apart.",
            name=_name(one, names),
            numbers=numbers,
        )
    within = bool(dose.sham_outcomes) and min(dose.sham_outcomes) <= dose.outcome_beside <= max(dose.sham_outcomes)
    if within:
        return _(
            "{name}: {numbers}; on the same scenarios it lies within what random sets do.",
            name=_name(one, names),
            numbers=numbers,
        )
    return _(
        "{name}: {numbers}; on the same scenarios it lies outside what random sets do.",
        name=_name(one, names),
        numbers=numbers,
    )


def _overlap(one: Estimate, other: Estimate) -> bool:
    """Return whether two intervals meet; without an interval the value stands for it."""
    ends = [(e.value if e.low is None else e.low, e.value if e.high is None else e.high) for e in (one, other)]
    return max(low for low, _high in ends) <= min(high for _low, high in ends)


def _chart(suppressions: Sequence[Suppression], names: Names) -> Chart:
    drawn = suppressions[:CHARTED_SETS]
    title = _("What holding features down does to the answer, by dose, and what it costs")
    spoken = "; ".join(
        _(
            "{name}, dose {dose}: answer {change} nats; {same} where random features have {band}; control KL {kl}",
            name=_name(one, names),
            dose=f"{dose.dose:g}",
            change=signed(dose.outcome.value),
            same=signed(dose.outcome_beside),
            band=_band(dose),
            kl=decimal(dose.control_kl.value, 3),
        )
        for one in drawn
        for dose in one.doses
    )
    left_out = len(suppressions) - len(drawn)
    limit = (
        " "
        + _(
            "The first {drawn} sets are drawn; the table has the other {others}.",
            drawn=count(len(drawn)),
            others=count(left_out),
        )
    ) * bool(left_out)
    return Chart(
        id="doses-chart",
        svg=dose_chart(
            tuple(DosePanel(_name(one, names), tuple(_point(dose) for dose in one.doses)) for one in drawn),
            chart_id="doses-chart",
            title=f"{title}. {spoken}.",
            description=_("The table below has the numbers."),
        ),
        title=title,
        description=spoken,
        caption=(
            _(
                "{title}. Lines are 95% intervals and means over all scenarios; the hatched band spans the sets of"
                " random live features on the fewer scenarios that they ran on. Left and right have scales of their"
                " own.",
                title=title,
            )
            + limit
        ),
    )


def _point(dose: Dose) -> DosePoint:
    return DosePoint(
        dose.dose,
        dose.outcome,
        dose.sham_outcomes,
        dose.control_kl,
        dose.control_loss,
        dose.sham_control_kl,
        dose.sham_control_loss,
    )


def _name(one: Suppression, names: Names) -> str:
    place = names.short_place(one.sae)
    features = plural(len(one.latents), "{count} feature", "{count} features")
    title = names.title(one.concept)
    if not place:
        return f"{title}, {features}"
    return _("{concept}, {features} at {place}", concept=title, features=features, place=place)


def _band(dose: Dose) -> str:
    if not dose.sham_outcomes:
        return _("not run")
    return _("{low} to {high}", low=signed(min(dose.sham_outcomes)), high=signed(max(dose.sham_outcomes)))


def _scenarios(suppressions: Sequence[Suppression]) -> str:
    """Return on how many scenarios the random sets and the features themselves ran."""
    numbers = dict.fromkeys((dose.n_beside, one.n_scenarios) for one in suppressions for dose in one.doses)
    return "; ".join(_("{number} of {total}", number=count(few), total=count(most)) for few, most in numbers)


def _doses(suppressions: Sequence[Suppression], names: Names) -> Table:
    rows = headed((_set_words(one, names), _dose_row(one, dose)) for one in suppressions for dose in one.doses)
    printed = sum(len(one.doses) for one in suppressions[:PRINTED_SETS])
    return Table(
        id="doses",
        query=DOSES,
        caption=_("Dose and response: changed minus untouched, mean over prompts (nats)"),
        columns=(
            Column(_("Dose")),
            Column(_("Answer"), numeric=True, detail=_("95% interval")),
            Column(_("Same scenarios"), numeric=True, detail=_("random: smallest to largest")),
            Column(_("Answer on controls"), numeric=True, detail=_("95% interval")),
            Column(_("Control KL"), numeric=True, detail=_("random")),
            Column(_("Control loss"), numeric=True, detail=_("random")),
            Column(_("Texts changed"), numeric=True),
        ),
        rows=rows,
        printed=rows[:printed],
        cut=cut_words(printed, len(rows), _("The first {number} sets", number=PRINTED_SETS)),
        note=_(
            "A dose of 1 takes away the largest activation that the audit saw of each feature. Controls are the"
            " matched prompts without the concept: what changes there is the cost. “Random”: sets of random live"
            " features, pushed as far in the same way, on fewer scenarios (n); beside them stands the set's own"
            " answer on these."
        ),
        layout="effects",
    )


def _set_words(one: Suppression, names: Names) -> str:
    latents = ", ".join(str(latent) for latent in one.latents)
    return f"{_name(one, names)}: {latents} (n {count(one.n_scenarios)})"


def _texts_changed(one: Suppression, dose: Dose) -> str:
    """Return how many of the texts came out otherwise: they are few, and a share of them says too much."""
    own = [text for text in one.continuations if text.dose == dose.dose]
    return (
        _(
            "{number} of {total}",
            number=count(sum(text.changed != text.untouched for text in own)),
            total=count(len(own)),
        )
        if own
        else _("none written")
    )


def _dose_row(one: Suppression, dose: Dose) -> Row:
    return Row(
        (
            Cell(f"{dose.dose:g}", sort=plain(dose.dose)),
            estimate_cell(dose.outcome, with_sign=True),
            Cell(
                signed(dose.outcome_beside),
                detail=f"{_band(dose)} (n {count(dose.n_beside)})",
                sort=plain(dose.outcome_beside),
            ),
            estimate_cell(dose.control_outcome, with_sign=True),
            Cell(
                f"{decimal(dose.control_kl.value, 3)} {interval(dose.control_kl, 3)}",
                detail=decimal(dose.sham_control_kl, 3),
            ),
            Cell(
                f"{signed(dose.control_loss.value, 3)} {interval(dose.control_loss, 3)}",
                detail=signed(dose.sham_control_loss, 3),
            ),
            Cell(_texts_changed(one, dose)),
        )
    )


def _texts(suppressions: Sequence[Suppression], names: Names) -> Table:
    texts = [(one, text) for one in suppressions for text in one.continuations]
    rows = tuple(_text_row(one, text, names) for one, text in texts)
    return Table(
        id="continuations",
        caption=_("What the model wrote, untouched and with the features held down (greedy decoding)"),
        columns=(
            Column(_("Prompt"), detail=_("features held down")),
            Column(_("Dose"), numeric=True),
            Column(_("Untouched")),
            Column(_("Features held down")),
        ),
        rows=rows,
        printed=rows[:PRINTED_CONTINUATIONS],
        cut=cut_words(min(PRINTED_CONTINUATIONS, len(rows)), len(rows), _("The first texts")),
        note=_("Texts of the model, printed as it wrote them; they are examples and measure nothing."),
        empty=_("No text was generated."),
        layout="texts",
    )


def _text_row(one: Suppression, text: Continuation, names: Names) -> Row:
    return Row(
        (
            Cell(visible(text.prompt), detail=_name(one, names)),
            Cell(f"{text.dose:g}"),
            Cell(visible(text.untouched)),
            Cell(visible(text.changed)),
        )
    )
