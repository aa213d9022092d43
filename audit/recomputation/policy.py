"""Whether the answer of a policy that a report prints is the one that the policy gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

from audit.digests import canonical_json
from audit.errors import AffidavitError
from audit.gate import judge_unsealed
from audit.policy.files import read_policy
from audit.printing import Record
from audit.records import as_json
from audit.signing.bundle_files import MANIFEST, POLICY
from audit.signing.checks import one_line, printable

_SHOWN = 5


def policy_problem(folder: Path, record: Record) -> str:
    """Return what the manifest says of the policy that the policy does not, or nothing."""
    recorded = record.run.policy
    if recorded is None:
        return ""
    try:
        day = date.fromisoformat(recorded.judged_on)
        policy = read_policy(folder / POLICY, today=day)
        run = replace(record.run, policy=None)
        again = judge_unsealed(folder, policy, record.findings, run, today=day)
    except (AffidavitError, ValueError) as error:
        said = one_line(error) if isinstance(error, AffidavitError) else str(error)
        return printable(f"{POLICY} cannot be put to the findings again: {said}")
    if canonical_json(as_json(again)) == canonical_json(as_json(recorded)):
        return ""
    pairs = zip(recorded.rules, again.rules, strict=False)
    named = [one.id for one, other in pairs if as_json(one) != as_json(other)] or ["the answer as a whole"]
    return printable(f"{MANIFEST} tells the verdict of {POLICY} otherwise than it is: {', '.join(named[:_SHOWN])}")
