"""`policy.toml` as frozen records: every violation with its file, line and key, in one error."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, get_args, get_type_hints

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from audit.digests import digest_bytes
from audit.errors import ConfigError
from audit.policy.asks import STRICT, Ask
from audit.policy.coverage import CoverageAsk, clause_problem
from audit.policy.differences import DifferenceAsk
from audit.policy.effects import EffectsAsk, InteractionsAsk
from audit.policy.evidence_query import SqlAsk
from audit.policy.features import ReadingAsk, RungAsk
from audit.policy.instrument import ControlAsk, FidelityAsk, UnresolvedAsk
from audit.policy.sealing import PlanAsk, SealAsk
from audit.policy.subjects import SubjectKind
from audit.records import Severity

POLICY_SCHEMA = "affidavit/policy/1"
MAX_SIZE_BYTES = 1 << 20
_LISTED = 20
_SHOWN = 80

Place = tuple[str | int, ...]
# Where in the document, and what is wrong there.
Problem = tuple[Place, str]
_Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"\S")]
_Clause = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+/[a-z0-9_]+$")]


class Baseline(StrEnum):
    """Whether a release must be compared with one before it. `optional` lets the first one pass on that point."""

    REQUIRED = "required"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class Rule:
    """One demand: what it is called, what breaking it does, why it is there, and exactly one kind."""

    id: _Id
    why: _Text
    severity: Severity = Severity.ERROR
    clause: _Clause | None = None
    fidelity: FidelityAsk | None = None
    control: ControlAsk | None = None
    unresolved: UnresolvedAsk | None = None
    rung: RungAsk | None = None
    reading: ReadingAsk | None = None
    effects: EffectsAsk | None = None
    interactions: InteractionsAsk | None = None
    coverage: CoverageAsk | None = None
    plan: PlanAsk | None = None
    seal: SealAsk | None = None
    difference: DifferenceAsk | None = None
    sql: SqlAsk | None = None

    @property
    def set_kinds(self) -> tuple[str, ...]:
        """Return the kinds that the rule has; a valid one has one."""
        return tuple(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def kind(self) -> str:
        """Return the name of its kind."""
        return self.set_kinds[0]

    @property
    def ask(self) -> Ask:
        """Return its kind with the thresholds."""
        ask: Ask = getattr(self, self.kind)
        return ask


KINDS = tuple(field.name for field in fields(Rule) if field.name not in {"id", "why", "severity", "clause"})


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class Waiver:
    """A rule that may be broken until the end of a day: which, why, and who answers for it."""

    rule: _Id
    reason: _Text
    owner: _Text
    expires: date


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class PolicyFile:
    """A policy file's content. `sql_limit_s` is how long each SQL rule may run."""

    schema: Literal["affidavit/policy/1"]
    title: _Text
    rule: Annotated[tuple[Rule, ...], Field(min_length=1)]
    waiver: tuple[Waiver, ...] = ()
    baseline: Baseline | None = None
    sql_limit_s: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read: its rules and waivers, where it lies, its bytes."""

    file: str
    data: bytes
    content: PolicyFile

    @property
    def digest(self) -> str:
        """Return the digest of the bytes."""
        return digest_bytes(self.data)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return the rules in their order."""
        return self.content.rule

    @property
    def baseline(self) -> Baseline | None:
        """Return whether a base is asked for: with rules about differences it is, unless the policy says otherwise."""
        if self.content.baseline is None and any(r.ask.about is SubjectKind.DIFFERENCE for r in self.rules):
            return Baseline.REQUIRED
        return self.content.baseline

    def waiver_of(self, rule: Rule) -> Waiver | None:
        """Return the waiver of a rule, or None."""
        return next((waiver for waiver in self.content.waiver if waiver.rule == rule.id), None)


def read_policy(path: Path, *, today: date) -> Policy:
    """Return a policy.

    Args:
        path: the file.
        today: the day on which waivers must not have expired.

    Raises:
        ConfigError: the file cannot be read or is no TOML, or anything in it is unknown, of the wrong type, out of
            range, twice, or expired; every violation is named with its line.
    """
    data = _read(path)
    try:
        text = data.decode("utf-8")
        parsed = tomllib.loads(text)
    except ValueError as error:
        raise _refused(path, [f"{path}: {error}"], expected="valid TOML in UTF-8") from error
    lines = _Lines(text)
    try:
        content = TypeAdapter(PolicyFile).validate_json(json.dumps(parsed, default=_day))
    except ValidationError as error:
        details = error.errors(include_url=False)
        # A list of rules of which none is valid is told from an empty one: its rules' own violations are enough.
        inner = {detail["loc"][0] for detail in details if len(detail["loc"]) > 1}
        own = [d for d in details if d["type"] != "too_short" or d["loc"][0] not in inner or len(d["loc"]) > 1]
        found = [_violation(path, lines, detail) for detail in own]
        raise _refused(path, found) from error
    problems = [f"{path}:{lines.of(place)}: {said}" for place, said in _problems(content, today)]
    if problems:
        raise _refused(path, problems)
    return Policy(str(path), data, content)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SIZE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            item=str(path),
            expected="a readable policy file",
            found=error.strerror or type(error).__name__,
            hint="Check the path.",
        ) from error
    if len(data) > MAX_SIZE_BYTES:
        raise _refused(path, [f"{path}: more than {MAX_SIZE_BYTES} bytes"])
    return data


def _day(value: object) -> str:
    """Return a TOML date or time as its text: strict JSON has neither, and strict Python no lists for tuples."""
    return str(value)


def _problems(content: PolicyFile, today: date) -> Iterator[Problem]:
    ids = Counter(rule.id for rule in content.rule)
    yield from _rule_problems(content.rule, ids)
    yield from _waiver_problems(content.waiver, ids, today)


def _rule_problems(rules: Sequence[Rule], ids: Counter[str]) -> Iterator[Problem]:
    for number, rule in enumerate(rules):
        place: Place = ("rule", number)
        if ids[rule.id] > 1:
            yield (*place, "id"), f"rule {rule.id}: expected an id that stands once; found it {ids[rule.id]} times"
        if len(rule.set_kinds) != 1:
            found = " and ".join(rule.set_kinds) or "none"
            yield place, f"rule {rule.id}: expected exactly one kind among {', '.join(KINDS)}; found {found}"
        for kind in rule.set_kinds:
            for problem in getattr(rule, kind).problems():
                yield (*place, kind), f"rule {rule.id}, {kind}: expected {problem}"
        if rule.clause is not None and (problem := clause_problem(rule.clause)) is not None:
            yield (*place, "clause"), f"rule {rule.id}, clause: expected {problem}"


def _waiver_problems(waivers: Sequence[Waiver], ids: Counter[str], today: date) -> Iterator[Problem]:
    waived = Counter(waiver.rule for waiver in waivers)
    for number, waiver in enumerate(waivers):
        place: Place = ("waiver", number)
        if waiver.rule not in ids:
            yield (*place, "rule"), f"waiver of {waiver.rule}: expected a rule of this policy; found no such id"
        if waived[waiver.rule] > 1:
            yield (*place, "rule"), f"waiver of {waiver.rule}: expected one waiver a rule; found {waived[waiver.rule]}"
        if waiver.expires < today:
            said = f"expected a day not before {today}; it expired on {waiver.expires}"
            yield (*place, "expires"), f"waiver of {waiver.rule} by {waiver.owner}: {said}"


class _Lines:
    """Where a key stands: tomllib gives no lines, so that headers and keys are looked for; the nearest one counts."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def of(self, place: Sequence[str | int]) -> int:
        """Return the line of a place in the document, counted from 1."""
        start, end, names = 0, len(self._lines), list(place)
        if len(names) > 1 and isinstance(names[1], int):
            headers = [n for n, line in enumerate(self._lines) if _is_header(line, str(names[0]))]
            if names[1] >= len(headers):
                return 1
            start = headers[names[1]]
            end = headers[names[1] + 1] if names[1] + 1 < len(headers) else end
            names = names[2:]
        at = start
        for name in names:
            if isinstance(name, str):
                at = next((n for n in range(at, end) if _names(self._lines[n], name)), at)
        return at + 1


def _is_header(line: str, name: str) -> bool:
    return re.match(rf"\s*\[\[\s*{re.escape(name)}\s*\]\]", line) is not None


def _names(line: str, key: str) -> bool:
    word = re.escape(key)
    found = re.search(rf"(^|[\s{{,.\[])[\"']?{word}[\"']?\s*(=|\.|\])", line.split("#", maxsplit=1)[0])
    return found is not None


def _violation(path: Path, lines: _Lines, detail: ErrorDetails) -> str:
    place = tuple(step for step in detail["loc"] if not (isinstance(step, str) and step.endswith("]")))
    key = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
    found = repr(detail["input"])
    found = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}…"
    match detail["type"]:
        case "unexpected_keyword_argument":
            known = ", ".join(_known(place[:-1]))
            return f"{path}:{lines.of(place)}: {key}: expected one of the keys {known}; found an unknown key"
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return f"{path}:{lines.of(place[:-1])}: {key}: expected this key; found none"
        case _:
            return f"{path}:{lines.of(place)}: {key}: {detail['msg']}; found {found}"


def _known(place: Sequence[str | int]) -> list[str]:
    """Return the keys of the table at a place."""
    kind: object = PolicyFile
    for name in place:
        if isinstance(name, str):
            kind = _record(get_type_hints(kind).get(name))
    return sorted(field.name for field in fields(kind))  # type: ignore[arg-type]  # always a dataclass by then


def _record(hint: object) -> object:
    """Return the dataclass inside a type such as `tuple[Rule, ...]` or `FidelityAsk | None`."""
    for inner in get_args(hint):
        if hasattr(inner, "__dataclass_fields__"):
            return inner
        if (found := _record(inner)) is not PolicyFile:
            return found
    return hint if hasattr(hint, "__dataclass_fields__") else PolicyFile


def _refused(
    path: Path, violations: Sequence[str], *, expected: str = "a policy as docs/gate.md describes"
) -> ConfigError:
    more = len(violations) - _LISTED
    shown = [*violations[:_LISTED], *([f"and {more} more"] if more > 0 else [])]
    return ConfigError(
        item=f"policy {path}: {len(violations)} violation{'s' if len(violations) > 1 else ''}",
        expected=expected,
        found="\n            ".join(shown),
        hint="Mend each place; nothing of a policy is ever ignored.",
    )
