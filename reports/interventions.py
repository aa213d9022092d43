"""The chapter on causal tests and control: what changing features did to the answers, and what was left out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from audit.graph import follows, graph_of
from audit.records import (
    CausalEffect,
    CausalResult,
    DownstreamEdge,
    ErrorNode,
    Findings,
    Rung,
)
from reports.contrasts import estimate_cell
from reports.control import control_passage
from reports.features import Names, cut_words, headed, sham_cell
from reports.interaction_words import NO_INTERVENTION
from reports.language import N_, _
from reports.length import SHOWN_ROWS
from reports.network import network_of, network_table, network_view
from reports.numbers import count, decimal, interval, plain, plural, probability, share, signed, visible
from reports.queries import EDGES, EFFECTS
from reports.spending import reasons_left_out, screens_passage, spending_passage
from reports.view import Cell, Chapter, Column, Passage, Row, Table
from reports.words import word

HEADING = N_("Causal tests and control")
# The usual level of the corrected test; the findings do not carry the configured one.
_LEVEL = 0.05
PRINTED_SINGLES = 30
PRINTED_EDGES = 8
SHOWN_EDGES = 100
PRINTED_ERRORS = 8


def interventions_view(findings: Findings, names: Names) -> Chapter:
    """Return the chapter; where nothing was changed it is one sentence."""
    causal = findings.causal
    if causal is None:
        return Chapter("causal", _(HEADING), (), (), (), missing=_(NO_INTERVENTION))
    return Chapter(
        id="causal",
        heading=_(HEADING),
        lead=(
            _(
                "Here features were changed inside the model while it answered the question about a concept. The"
                " answer is the logit of the expected word minus that of the other, in nats: a change of 0.1"
                " shifts the odds of the two words by about 10%. The effect is the fall of the answer when the"
                " feature is lowered to its level in the matched control: above 0 the feature speaks for the"
                " expected answer. Every effect is exact; first-order estimates chose what was measured and which"
                " shams were too small, or plainly enough, to need no run. A feature is called causal only if its"
                " effect passes the corrected test over scenarios and lies beyond meaningless changes of the same"
                " size (shams; all sham tests of an instrument share one level). An effect of switching something"
                " off is not a proof that the model needs it in deployment."
            ),
            causal_sentence(findings),
        ),
        terms=(),
        passages=(
            _singles(causal, names),
            *_network(findings, names),
            _later(causal, names),
            _errors(causal, names),
            control_passage(causal.suppressions, names),
            screens_passage(causal, names),
            spending_passage(causal),
        ),
    )


def causal_sentence(findings: Findings) -> str:
    """Return what the interventions on single features showed, in one sentence for the summary."""
    if findings.causal is None:
        return _(NO_INTERVENTION)
    effects = findings.causal.effects
    untested = sum(item.count for item in findings.causal.untested)
    beyond = " " + plural(
        untested,
        "{count} more test of features or pairs was left out.",
        "{count} more tests of features or pairs were left out.",
    )
    if not effects:
        return _("No single feature was changed, so nothing is said about use.") + (beyond if untested else "")
    causal = sum(effect.rung is Rung.CAUSAL for effect in effects)
    no_answer = sum(_undecided(effect) for effect in effects)
    return _(
        "In {tests} a single feature was lowered while the model answered: in {causal} the answer changed beyond"
        " random directions of equal size (sham test), in {null} this was not shown, and {no_answer} could not be"
        " tested or decided.",
        tests=plural(len(effects), "{count} test", "{count} tests"),
        causal=count(causal),
        null=count(len(effects) - causal - no_answer),
        no_answer=count(no_answer),
    ) + (_size(findings) + (beyond if untested else ""))


def _size(findings: Findings) -> str:
    """Return how large the largest causal effect is, beside the answer that it changes: a claim says no size."""
    effects = () if findings.causal is None else findings.causal.effects
    causal = [effect for effect in effects if effect.rung is Rung.CAUSAL]
    if not causal:
        return ""
    largest = max(causal, key=lambda effect: abs(effect.effect.value))
    answers = {concept.id: concept.outcome for concept in findings.concepts}
    answer = answers.get(largest.concept)
    if answer is None:
        return " " + _(
            "The largest such change is {effect} nats: passing the test says that a change is there, not that it is"
            " large.",
            effect=decimal(abs(largest.effect.value), 3),
        )
    return " " + _(
        "The largest such change is {effect} nats, where the answer itself stands at {answer}: passing the test says"
        " that a change is there, not that it is large.",
        effect=decimal(abs(largest.effect.value), 3),
        answer=signed(answer.concept_mean),
    )


def _undecided(effect: CausalEffect) -> bool:
    """Return whether nothing is known: it could not be tested, or passed and no shams were run beside it."""
    return effect.rung is Rung.UNRESOLVED or (effect.shams is None and effect.p_holm <= _LEVEL)


def _singles(causal: CausalResult, names: Names) -> Passage:
    heading = _("Single features (intervention)")
    if not causal.effects:
        return Passage(
            "singles-passage",
            heading,
            missing=f"{_('No single feature was changed.')} {reasons_left_out(causal)}".strip(),
        )
    own: dict[str, list[CausalEffect]] = defaultdict(list)
    for effect in causal.effects:
        own[effect.concept].append(effect)
    ordered = [
        effect for concept in _in_order(own, names) for effect in sorted(own[concept], key=lambda e: -e.rung.height)
    ]
    each = max(1, PRINTED_SINGLES // len(own))
    printed = {effect.id for effects in own.values() for effect in sorted(effects, key=lambda e: -e.rung.height)[:each]}
    rows = [(names.title(effect.concept), _single_row(effect, names)) for effect in ordered]
    # On paper the rung and the numbers say why, unless there is no answer; the other sentences are for the screen.
    shown = [
        (head, row if _undecided(effect) else replace(row, note=""))
        for effect, (head, row) in zip(ordered, rows, strict=True)
        if effect.id in printed
    ]
    table = Table(
        id="singles",
        query=EFFECTS,
        caption=_("Single features: what lowering them does to the answer (nats, confirmation scenarios, exact)"),
        columns=(
            Column(_("Feature"), detail=_("found for")),
            Column(_("Effect"), numeric=True, detail=_("95% interval")),
            Column(_("Set to zero"), numeric=True, detail=_("95% interval")),
            Column(_("KL"), numeric=True, detail=_("95% interval")),
            Column(_("p Holm"), numeric=True),
            Column(_("Shams"), numeric=True, detail=_("that do as much; p / level")),
            Column(_("Changes the answer"), detail=_("beyond shams")),
            Column("n", numeric=True, detail=_("changed")),
        ),
        rows=headed(rows),
        printed=headed(shown),
        cut=cut_words(
            len(shown),
            len(rows),
            plural(
                each,
                "Of each concept the first {count} feature, by rung,",
                "Of each concept the first {count} features, by rung,",
            ),
        ),
        note=_(
            "“Effect” lowers the feature to its level in the matched arm, “set to zero” switches it off. KL is how"
            " far the next word's distribution moves. Shams are random directions of equal norm; they are not run"
            " where the test over scenarios already failed, or where the budget ended; they run on some of the"
            " scenarios and stop once a claim is refused, so that their number is then a lower bound. All of these"
            " features are confirmed as associations; this table asks only whether the answer changes. “No"
            " answer”: too little to lower, or no shams; such a feature does not count among those that change"
            " nothing."
        ),
        shown=SHOWN_ROWS,
        layout="effects",
    )
    return Passage("singles-passage", heading, tables=(table,))


def _in_order(own: dict[str, list[CausalEffect]], names: Names) -> list[str]:
    known = [concept for concept in names.titles if concept in own]
    return known + [concept for concept in own if concept not in names.titles]


def _single_row(effect: CausalEffect, names: Names) -> Row:
    feature = names.feature(effect.sae, effect.latent)
    found = [detail for detail in (feature.detail, word(effect.contrast)) if detail]
    return Row(
        (
            replace(feature, detail=", ".join(found)),
            estimate_cell(effect.effect, with_sign=True, places=3),
            estimate_cell(effect.effect_zero, with_sign=True, places=3),
            estimate_cell(effect.kl, places=4),
            Cell(_("not tested")) if effect.rung is Rung.UNRESOLVED else _p_cell(effect.p_holm),
            sham_cell(effect.shams),
            _answer_cell(effect),
            Cell(count(effect.n_scenarios), detail=count(effect.n_changed)),
        ),
        note="" if effect.rung is Rung.CAUSAL else visible(effect.reason),
    )


def _p_cell(p_value: float) -> Cell:
    return Cell(probability(p_value), sort=plain(p_value))


def _answer_cell(effect: CausalEffect) -> Cell:
    """Return what the table asks; the rung below is that of the association, which another table shows."""
    if effect.rung is Rung.CAUSAL:
        return Cell(_("shown"), sort="2", mark="rung-causal")
    if _undecided(effect):
        return Cell(_("no answer"), sort="0", mark="rung-unresolved")
    return Cell(_("not shown"), sort="1", mark="rung-observed")


def _network(findings: Findings, names: Names) -> tuple[Passage, ...]:
    network = network_of(graph_of(findings))
    if not network.edges:
        return ()
    return (
        Passage(
            "network-passage",
            _("From concept to answer"),
            charts=(network_view(network, names),),
            tables=(network_table(network, names),),
        ),
    )


def _later(causal: CausalResult, names: Names) -> Passage:
    heading = _("Features of later instruments (intervention)")
    if not causal.edges:
        missing = _(
            "No effect on a feature of a later instrument is recorded: none passed, or there was none to look at."
        )
        return Passage("downstream-passage", heading, missing=missing)
    ordered = sorted(causal.edges, key=lambda edge: (not follows(edge), -abs(edge.effect.value)))
    rows = tuple(_later_row(edge, names) for edge in ordered[:SHOWN_EDGES])
    rest = len(ordered) - len(rows)
    following = sum(follows(edge) for edge in ordered)
    table = Table(
        id="downstream",
        query=EDGES,
        caption=_("What lowering a feature does to features further up in the model (fall of their maximum)"),
        columns=(
            Column(_("Feature lowered"), detail=_("on prompts of")),
            Column(_("Later feature")),
            Column(_("Effect"), numeric=True, detail=_("95% interval")),
            Column("q", numeric=True, detail="p"),
            Column(_("Exceeds every sham")),
        ),
        rows=rows,
        printed=rows[:PRINTED_EDGES],
        cut=cut_words(min(PRINTED_EDGES, len(rows)), len(rows), _("The strongest, those beyond every sham first,")),
        note=(
            plural(
                len(ordered),
                "{count} effect on later features recorded, {following} within the false discovery rate and beyond"
                " every sham that was run. The shams are too few for the rung “causal”: these are associated, the"
                " others observed.",
                "{count} effects on later features recorded, {following} within the false discovery rate and beyond"
                " every sham that was run. The shams are too few for the rung “causal”: these are associated, the"
                " others observed.",
                following=count(following),
            )
            + (" " + _("{number} more are in findings.json only.", number=count(rest)) if rest else "")
        ),
        shown=SHOWN_ROWS,
        layout="effects",
    )
    return Passage("downstream-passage", heading, tables=(table,))


def _later_row(edge: DownstreamEdge, names: Names) -> Row:
    lowered = names.feature(edge.sae, edge.latent)
    place = f"{lowered.detail}; " if lowered.detail else ""
    exceeds = {True: _("yes"), False: _("no"), None: _("not compared")}[edge.exceeds_shams]
    return Row(
        (
            Cell(lowered.text, detail=f"{place}{names.title(edge.concept)}", href=lowered.href, code=True),
            names.feature(edge.downstream_sae, edge.downstream_latent),
            estimate_cell(edge.effect, with_sign=True),
            Cell(probability(edge.q_value), detail=probability(edge.p_value), sort=plain(edge.q_value)),
            Cell(exceeds),
        )
    )


def _errors(causal: CausalResult, names: Names) -> Passage:
    heading = _("What the instrument leaves out (intervention)")
    if not causal.errors:
        missing = _("The effect of what the instrument leaves out was not measured, so its share is unknown.")
        return Passage("errors-passage", heading, missing=missing)
    ordered = sorted(causal.errors, key=lambda error: -error.share)
    rows = tuple(_error_row(error, names) for error in ordered)
    table = Table(
        id="errors",
        query=EFFECTS,
        caption=_("The error node: what the instrument leaves out, beside the confirmed features set to zero"),
        columns=(
            Column(_("Concept")),
            Column(_("Instrument")),
            Column(_("Effect, 95% interval (nats)"), numeric=True),
            Column(_("Share"), numeric=True),
        ),
        rows=rows,
        printed=rows[:PRINTED_ERRORS],
        cut=cut_words(min(PRINTED_ERRORS, len(rows)), len(rows), _("The largest shares")),
        note=_(
            "The share is |effect| over the sum of |effect| of the error taken away and of each confirmed feature"
            " set to zero there: the same kind of removal. A large share says that most of what happens at this"
            " place happens outside the confirmed features; features that were not tested are in neither part."
        ),
        layout="effects",
    )
    return Passage("errors-passage", heading, tables=(table,))


def _error_row(error: ErrorNode, names: Names) -> Row:
    return Row(
        (
            Cell(names.title(error.concept)),
            Cell(names.short_place(error.sae) or _("the instrument")),
            Cell(f"{signed(error.effect.value, 3)} {interval(error.effect, 3)}", sort=plain(error.effect.value)),
            Cell(share(error.share), sort=plain(error.share)),
        )
    )
