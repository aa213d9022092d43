"""Every question of an audit with its answer, in a fixed order, capped by the check with shuffled labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from audit.errors import EvidenceError
from audit.exports.answers import Answer, Kind, Standing
from audit.exports.concepts import contrast_answers, intervention_answers
from audit.exports.english import counted
from audit.exports.mixes import mix_answers
from audit.records import Findings, PermutationControl, Reading
from audit.signing.bundle_files import FINDINGS
from reports.numbers import decimal
from reports.words import READINGS

_FAILED_CONTROL = "The check with shuffled labels did not hold, so that no finding can be relied on."


def answers(findings: Findings) -> tuple[Answer, ...]:
    """Return every question in a fixed order, whatever the order of the record.

    Raises:
        EvidenceError: the record has no SAE, or a question twice, so that an answer could not be told from another.
    """
    if not findings.saes:
        raise _unlike("at least one SAE", "none")
    found = (*contrast_answers(findings), *intervention_answers(findings), *mix_answers(findings))
    if not control_holds(findings.permutation_control):
        found = tuple(_without_control(answer) for answer in found)
    twice = sorted(name for name, times in Counter(answer.id for answer in found).items() if times > 1)
    if twice:
        raise _unlike("each concept, mix and SAE with a name of its own", f"twice: {', '.join(twice)}"[:300])
    return tuple(sorted(found, key=lambda answer: (list(Kind).index(answer.kind), answer.id)))


def control_holds(control: PermutationControl) -> bool:
    """Return whether the check with shuffled labels was made and passed."""
    return control.holds


def control_words(control: PermutationControl) -> str:
    """Return what the check with shuffled labels found."""
    if not control.permutations:
        return f"Labels were never shuffled. {_FAILED_CONTROL}"
    found = (
        f"Labels were shuffled {counted(control.permutations, 'time')}; something was found"
        f" {counted(control.with_any_finding, 'time')} (rate {decimal(control.rate, 3)}, allowed"
        f" {decimal(control.limit, 3)})."
    )
    return found if control_holds(control) else f"{found} {_FAILED_CONTROL}"


def _without_control(answer: Answer) -> Answer:
    """Return the answer as it reads where the procedure itself does not hold: open, with nothing claimed."""
    if answer.standing is Standing.NOT_PUT:
        return answer
    return replace(
        answer,
        standing=Standing.OPEN,
        short=READINGS[Reading.UNRESOLVED].short,
        said=f"{_FAILED_CONTROL} {answer.said}",
        claims=(),
        not_listed=answer.not_listed + len(answer.claims),
    )


def _unlike(expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=FINDINGS,
        expected=expected,
        found=found,
        hint="The record is not one that an audit makes: verify the bundle.",
    )
