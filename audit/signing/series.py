"""A series of audits: each statement names the one before it, so that a missing, forked or moved link shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from audit.digests import Json
from audit.signing.attested import VerifyResult
from audit.signing.statement import Statement


@dataclass(frozen=True, slots=True)
class Link:
    """One audit of a series.

    Attributes:
        name: the folder as it was given.
        result: of every check of its bundle.
        problems: why it does not continue the series; empty where it does.
    """

    name: str
    result: VerifyResult
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the bundle is intact and continues the series."""
        return self.result.ok and not self.problems

    def as_json(self) -> dict[str, Json]:
        """Return the link as a JSON object."""
        return {"folder": self.name, "ok": self.ok, "problems": list(self.problems), **self.result.as_json()}


def order_links(results: Mapping[str, VerifyResult], *, tail: bool = False) -> tuple[Link, ...]:
    """Return the audits in the order of their places, each with what is wrong with its place.

    Args:
        results: folder as it was given -> the outcome of its checks. Bundles whose statement cannot be read come last.
        tail: whether the series may begin later than with number 1.
    """
    known = {name: result.statement for name, result in results.items() if result.statement is not None}
    by_digest: dict[str, list[str]] = defaultdict(list)
    followers: dict[str | None, set[str]] = defaultdict(set)
    for name, statement in known.items():
        by_digest[statement.digest].append(name)
        followers[statement.previous].add(statement.digest)
    places: dict[int, set[str]] = defaultdict(set)
    for statement in known.values():
        places[statement.sequence].add(statement.digest)
    # Of a tail, the predecessor of its first audit is not asked for.
    exempt = min(places, default=1) if tail else 1
    ordered = sorted(known, key=lambda name: (known[name].sequence, known[name].signed_at, name))
    links = []
    for name in ordered:
        statement = known[name]
        problems = [
            *_before(statement, known, by_digest, exempt=exempt),
            *_forks(statement, by_digest, followers[statement.previous] | places[statement.sequence]),
            *_strangers(name, results, by_digest, statement.previous),
            *_twins(name, by_digest[statement.digest]),
        ]
        links.append(Link(name, results[name], tuple(problems)))
    unread = [name for name in results if name not in known]
    return (*links, *(Link(name, results[name], ("its statement cannot be read",)) for name in unread))


def _before(
    statement: Statement, known: Mapping[str, Statement], by_digest: Mapping[str, Sequence[str]], *, exempt: int
) -> list[str]:
    if statement.previous is None:
        return []
    names = by_digest.get(statement.previous)
    if names is None:
        missing = f"missing: number {statement.sequence - 1}, {statement.previous}, is not among the audits given"
        return [] if statement.sequence == exempt else [missing]
    before = known[names[0]]
    problems = []
    if before.sequence != statement.sequence - 1:
        problems.append(f"reordered: number {statement.sequence} names {names[0]}, which is number {before.sequence}")
    if before.signed_at > statement.signed_at:
        when = f"{_moment(statement.signed_at)}, before {names[0]} at {_moment(before.signed_at)}"
        problems.append(f"reordered: it was sealed at {when}, which it names as its predecessor")
    return problems


def _forks(statement: Statement, by_digest: Mapping[str, Sequence[str]], rivals: set[str]) -> list[str]:
    others = sorted(by_digest[digest][0] for digest in rivals if digest != statement.digest)
    return [f"forked: {name} says of itself too that it is number {statement.sequence}" for name in others]


def _strangers(
    name: str, results: Mapping[str, VerifyResult], by_digest: Mapping[str, Sequence[str]], previous: str | None
) -> list[str]:
    """Return that another key sealed the audit before, unless both signers are trusted."""
    before = by_digest.get(previous or "")
    if before is None or results[before[0]].fingerprint == results[name].fingerprint:
        return []
    if results[name].trusted and results[before[0]].trusted:
        return []
    return [f"sealed by {results[name].fingerprint}, {before[0]} before it by {results[before[0]].fingerprint}"]


def _twins(name: str, names: Sequence[str]) -> list[str]:
    return [] if names[0] == name else [f"the same audit as {names[0]}, given twice"]


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
