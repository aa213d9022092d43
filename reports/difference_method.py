"""What a difference must explain: how to read it, its margins, its method with sources, and what it cannot say."""

from __future__ import annotations

from audit.records import DifferenceResult, DiffMargins, Verdict
from reports.difference_words import RECORD, verdict_mark, verdict_words
from reports.language import N_, _
from reports.numbers import count, plural
from reports.view import Cell, Chapter, Column, Passage, Row, Table, Term, whole

_MEANINGS = {
    Verdict.CHANGED: N_(
        "The numbers of the two models differ by more than chance explains, and by more than audits of one model differ"
        " where that was measured. It does not say better or worse."
    ),
    Verdict.EQUIVALENT: N_(
        "The difference was shown to be smaller than a margin that was fixed before. A difference that is surely there"
        " and too small to matter is equivalent too."
    ),
    Verdict.INCONCLUSIVE: N_(
        "Neither was shown. This is no pass: with more scenarios it may turn out either way, and the smallest change"
        " that could have been seen is printed."
    ),
    Verdict.NOT_COMPARABLE: N_("Nothing could be measured on both models alike; the reason is given."),
}
_WORDS = (
    (
        N_("Concept"),
        N_(
            "It counts as changed if any of its rows did, and as equivalent only if every row of scores and answers is,"
            " with every instrument. An AUROC of two dozen scenarios can show a change, and rarely that there is none."
        ),
    ),
    (
        N_("Rank and shift"),
        N_(
            "Concepts that are outlying come first, then those on whose texts the model's loss fell furthest beyond"
            " the others'; where that was not measured, what stands out most in any respect. The shift is the root"
            " mean square effect of a concept's features or of its answers, whichever of the two is larger, less what"
            " sampling alone explains. The order is this project's convention."
        ),
    ),
    (
        N_("Beside the others"),
        N_(
            "How many times as far a concept moved as the other concepts did together. Training on anything moves"
            " most concepts. “Outlying” says that a change of everything would rarely leave one so far ahead: if"
            " effects are draws from one normal distribution around zero, the ratio of squares follows an F"
            " distribution. Of the model's loss on the texts about each concept, beyond that on their neutral texts,"
            " it is the distance from the others' mean, over their spread. The chance of any false alarm is bounded"
            " over all concepts."
        ),
    ),
    (
        N_("Feature"),
        N_(
            "One direction that the instrument, a sparse autoencoder (SAE), reads in the model's inner state. Compared"
            " are those that one of the two audits chose on scenarios that are not used here."
        ),
    ),
    (
        N_("Answer"),
        N_("How much the model prefers the expected answer to a concept's question over the other one, in nats."),
    ),
    (
        N_("SD"),
        N_(
            "Standard deviation over scenarios, the smaller of the two models'. It makes differences of unlike numbers"
            " comparable, and the margin is a part of it."
        ),
    ),
    (
        N_("AUROC"),
        N_("How often the sensitive case gets the higher score of two texts. 0.5 is a coin toss; 1 is always right."),
    ),
    (
        N_("Noise floor"),
        N_(
            "The largest difference of a row between audits of the base's own model, in another batch order or"
            " arithmetic."
        ),
    ),
)
_LIMITATIONS = (
    (
        N_("Absence of a feature is not absence of a concept."),
        N_(
            "What neither audit chose, and what the instrument does not show, was not compared. A model may change"
            " where nobody looked."
        ),
    ),
    (
        N_("The results are about these two models, seen this way."),
        N_(
            "They hold for these model digests, SAEs, sites and seeds, and for scenarios of this kind. An instrument"
            " that was made for the base may miss what the new model does otherwise; the limits on fidelity bound"
            " this, they do not exclude it."
        ),
    ),
    (
        N_("Equivalent is not identical."),
        N_(
            "Each equivalence is a test of its own at the printed level: of very many rows whose true change lies at"
            " the margin, about one in twenty is called equivalent wrongly. The margins are this project's conventions."
        ),
    ),
    (
        N_("Unmatched is not new."),
        N_(
            "Where the two SAEs differ, a feature without a partner was not compared. Scores are then compared in each"
            " side's own standard deviations, so that a common gain of the whole model is not seen."
        ),
    ),
    (
        N_("Association is not use."),
        N_(
            "A feature that reacts differently need not change what the model does; an answer that moved is not"
            " explained by a feature that moved beside it."
        ),
    ),
    (
        N_("A signature proves integrity, not truth."),
        N_(
            "It shows that the files have not changed since the holder of the key sealed them. It does not show"
            " that the content is right, and this report is not a determination of compliance."
        ),
    ),
)
_SOURCES = N_(
    "Benjamini and Hochberg 1995 (false discovery rate). Efron 1987 (BCa intervals). Holm 1979 (alarms over all"
    " concepts). Jonker and Volgenant 1987 (assignment). Pagano and Tritchler 1983 (exact permutation distribution)."
    " Paulo and Belrose 2025, arXiv 2501.16615 (features of another seed). Schuirmann 1987 (two one-sided tests)."
    " Winkler et al. 2014 (sign-flip tests)."
)


def guide_chapter() -> Chapter:
    """Return how to read the report."""
    return Chapter(
        id="guide",
        heading=_("How to read this report"),
        lead=(
            _(
                "Two audits put the same texts to two models. Each line of this report compares one number on the same"
                " scenarios, one by one, and ends in one of these verdicts."
            ),
        ),
        terms=tuple(
            Term(verdict_words(verdict), _(_MEANINGS[verdict]), mark=verdict_mark(verdict)) for verdict in Verdict
        ),
        passages=(
            Passage(
                id="guide-words",
                heading=_("Words"),
                terms=tuple(Term(_(term), _(meaning)) for term, meaning in _WORDS),
            ),
        ),
    )


def limitations_chapter() -> Chapter:
    """Return what a difference must admit."""
    return Chapter(
        id="limitations",
        heading=_("Limitations"),
        lead=(),
        terms=tuple(Term(_(head), _(text)) for head, text in _LIMITATIONS),
        passages=(),
    )


def margins_chapter(margins: DiffMargins) -> Chapter:
    """Return every limit, fixed before the comparison."""
    rows = (
        (_("Margin of equivalence of scores and answers"), _("{number} SD", number=f"{margins.scenario_sd:g}")),
        (_("Margin of equivalence of an AUROC"), f"{margins.auroc:g}"),
        (_("False discovery rate of “changed”, over all rows together"), f"{margins.fdr_q:g}"),
        (_("Level of each of the two one-sided tests of equivalence"), f"{margins.tost_alpha:g}"),
        (_("Scenarios that equivalence takes at least"), count(margins.least_scenarios)),
        (_("Chance of any false alarm “outlying”, over all concepts together"), f"{margins.outlying_alpha:g}"),
        (_("Largest ratio of an SAE's FVU on the two models"), f"{margins.fvu_ratio:g}"),
        (_("Largest distance of its rises of cross-entropy"), _("{number} nats", number=f"{margins.delta_ce:g}")),
        (_("Least correlation of matched features"), f"{margins.match_r:g}"),
        (_("Discovery prompts for matching, at most"), count(margins.match_prompts)),
        (_("Tokens that a matched feature fires on, at least"), count(margins.match_tokens)),
        (_("Circular shifts for the null of the correlations"), count(margins.match_shifts)),
        (_("Bootstrap resamples"), count(margins.bootstrap)),
        (_("Seed of the resamples"), str(margins.seed)),
    )
    table = whole(
        Table(
            id="margins-table",
            caption=_("Every limit of this comparison"),
            columns=(Column(_("Limit")), Column(_("Value"))),
            rows=tuple(Row((Cell(name), Cell(value))) for name, value in rows),
            note=_(
                "They are stored in {record}, so that a reader who prefers other limits can apply them.", record=RECORD
            ),
            layout="keys",
            record=RECORD,
        )
    )
    return Chapter(
        id="margins",
        heading=_("Margins, fixed beforehand"),
        lead=(
            _("No limit depends on what was found. The standard deviations they multiply are in the tables of rows."),
        ),
        terms=(),
        passages=(Passage(id="margins-all", heading=_("The limits"), tables=(table,)),),
    )


def method_chapter(result: DifferenceResult) -> Chapter:
    """Return the method in half a page, with its sources."""
    margins = result.margins
    return Chapter(
        id="method",
        heading=_("Method"),
        lead=(),
        terms=(),
        passages=(
            Passage(
                "method-pairs",
                _("What is paired"),
                paragraphs=(
                    _(
                        "The unit is the scenario. Of a feature, its score on a scenario (the largest activation on the"
                        " text with the concept minus that on the text without) is subtracted between the two models;"
                        " of an answer, the logit of the target minus that of the foil. A feature is compared where"
                        " discovery scenarios of either audit chose it, on confirmation scenarios, which chose nothing."
                        " Margins come from discovery scenarios. The difference of means is fitted anew on each model's"
                        " discovery scenarios: it has nothing to tune."
                    ),
                ),
            ),
            Passage(
                "method-tests",
                _("How a row ends"),
                paragraphs=(
                    _(
                        "Changed: an exact sign-flip test over scenarios (Pagano and Tritchler 1983; Winkler et al."
                        " 2014) passes Benjamini-Hochberg (1995) at {q} over all {tests} rows together, and the mean"
                        " difference exceeds the noise floor, where that was measured. Equivalent: the {inside}%"
                        " interval of the mean difference lies inside the margin, on at least {least} scenarios, which"
                        " is two one-sided tests at {level} (Schuirmann 1987); of an AUROC by {resamples} resamples of"
                        " scenarios. Equivalent wins over changed. 95% intervals are BCa (Efron 1987). Detectable is"
                        " the difference that would have been found with 80% power.",
                        q=f"{margins.fdr_q:g}",
                        tests=count(result.tests),
                        inside=f"{100 * (1 - 2 * margins.tost_alpha):g}",
                        least=count(margins.least_scenarios),
                        level=f"{margins.tost_alpha:g}",
                        resamples=count(margins.bootstrap),
                    ),
                    _noise(result),
                ),
            ),
            Passage(
                "method-matching",
                _("Instruments"),
                paragraphs=(
                    _(
                        "SAEs with one digest are paired feature by feature. Of different ones at the same site,"
                        " partners are each other's best by correlation over tokens, are paired by the assignment with"
                        " the largest sum, and have r of at least {r} and more than with shifted tokens. Features are"
                        " compared only where the SAE explains both models alike: FVU at most {ratio} times apart,"
                        " rises of cross-entropy at most {nats} nats.",
                        r=f"{margins.match_r:g}",
                        ratio=f"{margins.fvu_ratio:g}",
                        nats=f"{margins.delta_ce:g}",
                    ),
                ),
            ),
            Passage("method-sources", _("Sources"), paragraphs=(_(_SOURCES),)),
        ),
    )


def _noise(result: DifferenceResult) -> str:
    if not result.noise:
        return _("The noise floor was not measured: no further audit of the base's model was given.")
    return plural(
        len(result.noise),
        "The noise floor comes from {count} further audit of the base's model.",
        "The noise floor comes from {count} further audits of the base's model.",
    )
