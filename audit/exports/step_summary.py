"""A page of Markdown for a CI job, as GitHub shows it (`$GITHUB_STEP_SUMMARY`): the answers, and what they do not say.

Texts of the record are written so that no character of them is Markdown, HTML, a mention, a link or an emoji.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from audit.exports.answers import Answer, Kind, Standing
from audit.exports.english import counted
from audit.exports.markdown import as_text
from audit.exports.questions import answers, control_words
from audit.exports.source import ExportSource, hex_of
from audit.records import ConceptResult, Fidelity, Findings
from reports.concepts import outcome_words
from reports.numbers import NOT_MEASURED, count
from reports.words import COLOUR_SHORT

# GitHub refuses a step's summary above 1 MiB; other steps of the job may write to the same file.
LIMIT_BYTES = 512 << 10
_NAMED = 40
_STANDINGS = {
    Standing.ANSWERED: "answered",
    Standing.DOUBTFUL: "doubtful",
    Standing.OPEN: "open: no sign found, unresolved, exploratory or not measured",
    Standing.NOT_PUT: "not put",
}


def step_summary(source: ExportSource) -> bytes:
    """Return summary.md, at most `LIMIT_BYTES` long; equal records give equal bytes.

    Raises:
        EvidenceError: the record's moment cannot be read, or it has no SAE, or a question twice.
    """
    asked = answers(source.findings)
    head, rows, tail = _head(source), tuple(_rows(source.findings, asked)), _tail(source, asked)
    room = LIMIT_BYTES - sum(len(part.encode()) for part in (*head, *tail)) - 1024
    shown: list[str] = []
    for row in rows:
        room -= len(row.encode()) + 1
        if room < 0:
            break
        shown.append(row)
    left = len(rows) - len(shown)
    note = [f"\n{count(left)} more concepts are in report.html."] if left else []
    return ("\n".join([*head, *shown, *note, *tail]) + "\n").encode()


def _digest(digest: str) -> str:
    return f"`{digest}`" if hex_of(digest) is not None else as_text(digest)


def _head(source: ExportSource) -> list[str]:
    findings, run = source.findings, source.run
    copy = [] if source.withheld is None else ["", "This is a redacted copy: texts of the bundle are withheld."]
    instruments = (
        f"- SAE {as_text(sae.record.name)}, {as_text(sae.record.site)}: {COLOUR_SHORT[sae.fidelity.colour]}"
        for sae in findings.saes
    )
    return [
        f"# Model audit: {as_text(findings.model.name)}",
        "",
        f"**{source.policy}**" if run.policy is None else as_text(source.policy),
        *copy,
        "",
        f"- Model digest {_digest(findings.model.digest)}",
        *instruments,
        f"- Suites: {_suites(findings)}",
        f"- Made {source.stamp} by {as_text('affidavit ' + run.tool_version)}",
        f"- Sealed by {as_text(run.seal.common_name)}",
        f"- Findings digest {_digest(run.findings_digest)}",
        "",
        "## Answers through the first SAE",
        "",
        "Topic: is the subject told from others? Distinction: is the sensitive case told from its twin in equal words?",
        "",
        "| concept | topic | distinction | its answer, sensitive case against twin | instrument |",
        "|---|---|---|---|---|",
    ]


def _suites(findings: Findings) -> str:
    names = sorted(as_text(suite.id) for suite in findings.suites)
    more = f" and {count(len(names) - _NAMED)} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED]) or 'none'}{more}"


def _rows(findings: Findings, asked: Sequence[Answer]) -> Iterator[str]:
    main = findings.saes[0].record.name if findings.saes else ""
    by_place = {(answer.kind, answer.part): answer for answer in asked if answer.sae == main}
    for concept in sorted(findings.concepts, key=lambda concept: (concept.domain, concept.id)):
        fidelity = next((row for row in concept.fidelity if row.sae == main), None)
        cells = (
            as_text(concept.title) + (" (exploratory)" if concept.exploratory else ""),
            _answer(by_place.get((Kind.TOPIC, concept.id))),
            _answer(by_place.get((Kind.DISTINCTION, concept.id))),
            as_text(_outcome(concept), 400),
            _colour(fidelity),
        )
        yield f"| {' | '.join(cells)} |"


def _answer(answer: Answer | None) -> str:
    if answer is None:
        return "Not put"
    features = f", {counted(len(answer.claims), 'feature')}" if answer.claims else ""
    doubt = " (open)" if answer.standing is Standing.OPEN else ""
    return f"{as_text(answer.short)}{features}{doubt}"


def _outcome(concept: ConceptResult) -> str:
    return outcome_words(concept.outcome)


def _colour(fidelity: Fidelity | None) -> str:
    return COLOUR_SHORT[fidelity.colour] if fidelity is not None else NOT_MEASURED


def _tail(source: ExportSource, asked: Sequence[Answer]) -> list[str]:
    findings = source.findings
    standings = {kind: Counter(a.standing for a in asked if a.kind is kind) for kind in Kind}
    counted = [
        f"| {kind.value} | {' | '.join(count(standings[kind][standing]) for standing in Standing)} |"
        for kind in Kind
        if standings[kind]
    ]
    ladder = ", ".join(f"{rung} {count(number)}" for rung, number in source.ladder.items())
    shown = sorted(findings.not_tested)[:_NAMED]
    more = len(findings.not_tested) - len(shown)
    return [
        "",
        "## All questions, through every SAE",
        "",
        f"| question | {' | '.join(_STANDINGS[standing] for standing in Standing)} |",
        f"|---|{'---|' * len(Standing)}",
        *counted,
        "",
        f"Findings about single features by rung: {ladder}.",
        "A feature that reacts need not be one that the model uses; only the rung “causal” speaks of use.",
        "",
        as_text(control_words(findings.permutation_control), 1000),
        "",
        "## Not tested",
        "",
        *([f"- {as_text(text, 400)}" for text in shown] or ["Nothing is listed; what was tested is the table above."]),
        *([f"- and {count(more)} more, in report.html"] if more > 0 else []),
        "",
        "## Check it",
        "",
        "`affidavit verify BUNDLE --trust CERTIFICATE --recompute` checks the bundle's seal and makes this page again.",
    ]
