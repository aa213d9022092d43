"""What a policy said of the findings before they were sealed, rule by rule; waivers with their owners."""

from __future__ import annotations

from audit.records import GateVerdict, RuleOutcome, RuleVerdict, RunInfo
from reports.language import N_, _
from reports.numbers import count, short_digest, visible
from reports.view import Cell, Chapter, Column, Passage, Row, Table

NO_POLICY = N_("no policy applied")
POLICY_CHAPTER = "policy"
_LIMIT = N_(
    "That a policy is passed says that what it asks was found. It is no approval and no determination of compliance."
)
_OUTCOMES = {
    RuleOutcome.PASS: N_("holds"),
    RuleOutcome.FAIL: N_("broken"),
    RuleOutcome.UNRESOLVED: N_("cannot be told"),
    RuleOutcome.NOT_APPLICABLE: N_("does not apply"),
}
_MARKS = {RuleOutcome.PASS: "green", RuleOutcome.FAIL: "red", RuleOutcome.UNRESOLVED: "unresolved"}


def policy_verdict(run: RunInfo) -> str:
    """Return the verdict as the cover names it."""
    if run.policy is None:
        return _(NO_POLICY)
    return _("passed") if run.policy.passed else _("not passed")


def policy_note(run: RunInfo) -> str:
    """Return what the verdict on the cover means."""
    verdict = run.policy
    if verdict is None:
        return _("This report states what was measured. It passes no judgement on the model and grants no approval.")
    waived = sum(rule.waived for rule in verdict.rules)
    said = _(
        "Policy “{title}” ({digest}), judged on {day}: {held} of {number} rules hold, {waived} waived.",
        title=visible(verdict.policy),
        digest=short_digest(visible(verdict.policy_digest)),
        day=visible(verdict.judged_on),
        held=count(sum(rule.outcome is RuleOutcome.PASS for rule in verdict.rules)),
        number=count(len(verdict.rules)),
        waived=count(waived),
    )
    return f"{said} {_(_LIMIT)}"


def policy_sentence(run: RunInfo) -> str:
    """Return what the summary says of policies."""
    if run.policy is None:
        return _(
            "No policy was applied: this report does not say whether the model may be used. A seal shows that"
            " nothing was changed since sealing, not that the content is right, and it is not a determination of"
            " compliance."
        )
    return _(
        "A policy was put to these findings: {verdict}. Whether the model may be used, its owner decides. A seal shows"
        " that nothing was changed since sealing, not that the content is right, and it is not a determination of"
        " compliance.",
        verdict=policy_verdict(run),
    )


def policy_chapter(run: RunInfo) -> Chapter | None:
    """Return the chapter on the policy, or None where none was applied."""
    verdict = run.policy
    if verdict is None:
        return None
    passages = [Passage(id="policy-rules", heading=_("Its rules"), tables=(_rules(verdict),))]
    waived = [rule for rule in verdict.rules if rule.waiver is not None]
    if waived:
        passages.append(
            Passage(
                id="policy-waivers",
                heading=_("Waivers"),
                paragraphs=(
                    _("A waived rule is broken or cannot be told, and somebody decided that the release goes on."),
                ),
                tables=(_waivers(waived),),
            )
        )
    return Chapter(
        id=POLICY_CHAPTER,
        heading=_("What the policy says"),
        lead=(
            policy_note(run),
            _(
                "The policy is policy.toml in the bundle; affidavit verify --recompute puts it to the evidence again."
                " Rules about the seal and about changes against an earlier version are left to affidavit gate."
            ),
        ),
        terms=(),
        passages=tuple(passages),
    )


def _rules(verdict: GateVerdict) -> Table:
    rows = tuple(
        Row(
            (
                Cell(visible(rule.id), detail=_severity(rule)),
                Cell(visible(rule.asks), detail=visible(rule.why)),
                Cell(_outcome(rule), mark=_MARKS.get(rule.outcome, "")),
                Cell(visible(rule.said)),
            )
        )
        for rule in verdict.rules
    )
    return Table(
        id="policy-rules-table",
        caption=_("Each rule, what it asks and what came of it"),
        columns=(Column(_("Rule")), Column(_("Asks")), Column(_("Outcome")), Column(_("Because"))),
        rows=rows,
        printed=rows,
        query="policy.toml",
    )


def _severity(rule: RuleVerdict) -> str:
    stops = _("stops the release") if rule.severity.value == "error" else _("only warns")
    return stops if rule.clause is None else f"{stops}; {visible(rule.clause)}"


def _outcome(rule: RuleVerdict) -> str:
    outcome = _(_OUTCOMES[rule.outcome])
    return _("{outcome}, waived", outcome=outcome) if rule.waived else outcome


def _waivers(rules: list[RuleVerdict]) -> Table:
    rows = tuple(
        Row(
            (
                Cell(visible(rule.id)),
                Cell(_("yes") if rule.waived else _("no, the rule holds or does not apply")),
                Cell(visible(rule.waiver.reason)),
                Cell(visible(rule.waiver.owner)),
                Cell(visible(rule.waiver.expires)),
            )
        )
        for rule in rules
        if rule.waiver is not None
    )
    return Table(
        id="policy-waivers-table",
        caption=_("Who lets which rule be, why, and until when"),
        columns=(Column(_("Rule")), Column(_("Used")), Column(_("Reason")), Column(_("Owner")), Column(_("Last day"))),
        rows=rows,
        printed=rows,
        query="policy.toml",
    )
