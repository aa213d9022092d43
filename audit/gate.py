"""The gate: a sealed folder is verified, then put to a policy. It needs no model, and imports nothing that draws.

What a folder is stands here alone: one with `diff.json` is a difference. Rules and their words know nothing of files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from audit.errors import EvidenceError, UsageError
from audit.memory import rarely_collected
from audit.policy.evidence_query import SqlAsk
from audit.policy.files import Policy
from audit.policy.judging import judge
from audit.policy.subjects import Answers, Difference, Subject, SubjectKind, difference_of
from audit.records import DifferenceResult, Findings, GateVerdict, RunInfo, parse_record
from audit.signing.attested import VerifyResult
from audit.signing.bundle_files import DIFFERENCE, FINDINGS, MANIFEST
from audit.signing.checks import CheckStatus
from audit.signing.difference import read_difference
from audit.signing.documents import Documents
from audit.signing.strict_json import expect_object

if TYPE_CHECKING:
    from audit.evidence.store import EvidenceCopy, QueryResult


def kind_of(place: Path) -> SubjectKind:
    """Return what a folder is.

    Raises:
        UsageError: it is no folder.
    """
    if os.path.lexists(place / DIFFERENCE):
        return SubjectKind.DIFFERENCE
    if not place.is_dir():
        raise UsageError(
            item=str(place),
            expected="the folder of a sealed bundle or difference",
            found="a file" if os.path.lexists(place) else "no such folder",
            hint="Give a bundle, or a redacted copy of one. A report alone holds too little to judge.",
        )
    return SubjectKind.BUNDLE


@dataclass(frozen=True, slots=True)
class Compared:
    """What a release is compared with.

    Args:
        base: the base, in words.
        difference: what changed against it; None where only its bundle is at hand.
    """

    base: str
    difference: Difference | None = None


def compared_by(place: Path, seal: VerifyResult, *, new: VerifyResult) -> Compared:
    """Return what a sealed difference says of a bundle.

    Args:
        place: the difference.
        seal: every check of it, made now.
        new: every check of the bundle that is judged.

    Raises:
        EvidenceError: a check of the difference failed.
        UsageError: it is no difference, or one of another bundle.
    """
    if not os.path.lexists(place / DIFFERENCE):
        raise UsageError(
            item=str(place),
            expected="the folder that `affidavit diff` wrote",
            found=f"a folder without {DIFFERENCE}",
            hint="Give the difference; a base bundle goes to --baseline.",
        )
    require_intact(place, seal)
    result = _read(place, seal)
    own = new.statement.digest if new.statement is not None else "none"
    if result.new.statement != own:
        raise UsageError(
            item=str(place),
            expected=f"a difference to the bundle that is judged, statement {own}",
            found=f"one to statement {result.new.statement}",
            hint="Compare this bundle with its base: affidavit diff BASE BUNDLE.",
        )
    return Compared(_base(result), difference_of(result))


def gate(
    place: Path, policy: Policy, seal: VerifyResult, *, today: date, compared: Compared | None = None
) -> GateVerdict:
    """Return what a policy says of a sealed folder.

    Args:
        place: the bundle, redacted copy or difference that `seal` is of.
        policy: as it was read for `today`.
        seal: every check of the folder, made now.
        today: the day of the judgement.
        compared: what the release is compared with; a difference says that itself.

    Raises:
        EvidenceError: a check failed, or what was checked is not of this version's form.
        UsageError: see `judge`.
    """
    require_intact(place, seal)
    if kind_of(place) is SubjectKind.DIFFERENCE:
        result = _read(place, seal)
        return judge(policy, Subject(seal, difference=difference_of(result)), today=today, base=_base(result))
    # The bytes that are read are those that were checked, by digest; DuckDB opens its file itself.
    files = _files(place, seal)
    manifest = expect_object(files.parsed(MANIFEST), item=MANIFEST)
    with rarely_collected():
        findings = parse_record(Findings, files.parsed(FINDINGS), where=FINDINGS)
    run = parse_record(RunInfo, manifest.get("run"), where=f"{MANIFEST}, run")
    with _answers(place, policy, withheld=seal.redacted) as answers:
        difference = compared.difference if compared is not None else None
        subject = Subject(seal, findings=findings, run=run, answers=answers, difference=difference)
        return judge(policy, subject, today=today, base=compared.base if compared is not None else None)


def _read(place: Path, seal: VerifyResult) -> DifferenceResult:
    return read_difference(_files(place, seal).read(DIFFERENCE))


def _base(result: DifferenceResult) -> str:
    return f"{result.base.model}, sealed {result.base.signed_at}, statement {result.base.statement}"


def judge_unsealed(folder: Path, policy: Policy, findings: Findings, run: RunInfo, *, today: date) -> GateVerdict:
    """Return what a policy says of an audit that is about to be sealed; its report prints the answer.

    Rules about the seal and about changes do not apply yet. Texts count as withheld: the answer is printed in redacted
    copies as well, so that no rule may quote one.

    Args:
        folder: the bundle, its evidence complete.
        policy: as it was read for `today`.
        findings: of the audit.
        run: its circumstances.
        today: the day of the judgement.

    Raises:
        UsageError: see `judge`.
        EvidenceError: the evidence is damaged.
    """
    with _answers(folder, policy, withheld=True) as answers:
        return judge(policy, Subject(None, findings=findings, run=run, answers=answers), today=today)


def require_intact(place: Path, seal: VerifyResult) -> None:
    """Pass if no check of a sealed folder failed.

    Raises:
        EvidenceError: one did; each is named.
    """
    broken = [f"{check.name.value}: {check.detail}" for check in seal.checks if check.status is CheckStatus.FAIL]
    if broken:
        raise EvidenceError(
            item=str(place),
            expected="a seal that holds: no policy is put to anything else",
            found="\n            ".join(broken),
            hint="Run `affidavit verify` on it, and get an intact copy.",
        )


def _files(place: Path, seal: VerifyResult) -> Documents:
    if seal.files is None:
        raise EvidenceError(
            item=str(place),
            expected="the folder of a sealed bundle or difference",
            found="a seal without one",
            hint="Give a bundle, or a redacted copy of one. A report alone holds too little to judge.",
        )
    return seal.files


@contextmanager
def _answers(place: Path, policy: Policy, *, withheld: bool) -> Iterator[Answers]:
    """Yield how the policy's SQL is answered; every statement is tried on evidence without rows first."""
    limit = policy.content.sql_limit_s
    statements = [rule.sql.select for rule in policy.rules if isinstance(rule.sql, SqlAsk)]
    if not statements:
        yield Answers(_nothing, lambda _: (), withheld)
        return
    from audit.evidence.store import check_statement, open_copy  # noqa: PLC0415 - most policies hold no SQL

    tables = {statement: check_statement(statement, limit_s=limit) for statement in statements}
    # Only what the statements name is copied: a full audit's evidence is large.
    with open_copy(place, tables=frozenset[str]().union(*tables.values())) as copy:
        yield Answers(
            lambda statement: copy.ask(statement, limit_s=limit),
            lambda statement: _empty(copy, tables[statement]),
            withheld,
        )


def _empty(copy: EvidenceCopy, tables: frozenset[str]) -> tuple[str, ...]:
    # The names come from the binder: each is a table of the schema or the view over the shards.
    return tuple(sorted(table for table in tables if not copy.ask(f'SELECT 1 FROM "{table}" LIMIT 1').rows))  # noqa: S608


def _nothing(statement: str) -> QueryResult:
    raise UsageError(
        item=statement[:80], expected="a statement of the policy", found="another", hint="This is a defect of the tool."
    )
