"""A signed plan: what will be measured and by which thresholds, sealed before it is (pre-registration).

A reader of a result wants to know that nobody chose the question after seeing the answer. The plan names model, SAEs,
suites, configuration and the code that measures, by digest; an audit under a plan that finds anything else is refused,
and the plan travels in the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from audit.digests import Json, digest_json
from audit.errors import EvidenceError
from audit.signing.attested import check_trust
from audit.signing.bundle_files import MANIFEST, PLAN
from audit.signing.checks import Check, CheckName, CheckStatus, failed, not_checked, one_line, passed, printable
from audit.signing.detached import Detached, read_detached
from audit.signing.documents import Documents
from audit.signing.statement import SignerBlock, Statement, StatementKind, build_statement
from audit.signing.strict_json import expect_object, expect_text

PLAN_SCHEMA = "affidavit/plan/1"
# In the environment of a run: the digest of the code that measures.
MEASURING_CODE = "measuring code"
_SUBJECT = "plan"
_KEYS = frozenset({"schema", "model", "saes", "controls", "suites", "format", "config", "tool"})
_NAMED = 8
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that was read: its statement, what it says will be measured, and the bytes of its file."""

    detached: Detached
    content: Mapping[str, Json]
    data: bytes = field(repr=False)

    @property
    def statement(self) -> Statement:
        """Return the signed statement."""
        return self.detached.statement


def plan_content(
    *,
    model: Json,
    saes: Sequence[Json],
    controls: Sequence[Json],
    suites: Sequence[Json],
    prompt_format: str,
    config: Mapping[str, Json],
    version: str,
    code: str,
) -> dict[str, Json]:
    """Return what a plan promises, as JSON.

    Args:
        model: its record as the findings will have it, with its digest.
        saes: their records, likewise.
        controls: the records of the trained controls; untrained ones follow from the seed in `config`.
        suites: their records, likewise, with what of them runs.
        prompt_format: how a prompt reaches the model.
        config: the configuration, with local folders by their own names.
        version: this package's version.
        code: the digest of the code that measures.
    """
    return {
        "schema": PLAN_SCHEMA,
        "model": model,
        "saes": list(saes),
        "controls": list(controls),
        "suites": list(suites),
        "format": prompt_format,
        "config": dict(config),
        "tool": {"version": version, "code": code},
    }


def plan_statement(content: Mapping[str, Json], *, signer: SignerBlock, signed_at: datetime, version: str) -> Statement:
    """Return the statement that seals a plan."""
    return build_statement(
        {_SUBJECT: digest_json(dict(content))},
        {"plan": dict(content)},
        signer=signer,
        signed_at=signed_at,
        tool_version=version,
        kind=StatementKind.PLAN,
    )


def read_plan(data: bytes, *, item: str, now: datetime | None = None) -> Plan:
    """Return the plan in a file's bytes.

    Raises:
        EvidenceError: the statement does not hold (see `read_detached`), or its plan is not of this version's form.
    """
    detached = read_detached(data, kind=StatementKind.PLAN, item=item, now=now)
    content = expect_object(detached.statement.predicate.get("plan"), item=f"{item}, plan", keys=_KEYS)
    if content["schema"] != PLAN_SCHEMA:
        raise _wrong(f"{item}, schema", PLAN_SCHEMA, str(content["schema"])[:_LONGEST])
    if detached.statement.subjects != {_SUBJECT: digest_json(dict(content))}:
        raise _wrong(f"{item}, subject", "the digest of the plan in the statement", "another digest")
    return Plan(detached, content, data)


def plan_differences(plan: Plan, found: Mapping[str, Json]) -> list[str]:
    """Return where what was found is not what was planned, each with both values; empty when nothing differs.

    Args:
        plan: the plan.
        found: `plan_content` of what is there. Its controls may be more than those of the plan.
    """
    planned = dict(plan.content)
    found = dict(found) | {"controls": _shared(planned["controls"], found["controls"])}
    return list(_compare("", planned, found))


def check_plan(files: Documents, statement: Statement, pinned: x509.Certificate | None) -> Check:
    """Return whether the bundle's audit is the one that its plan announced, and the plan came first."""
    name = CheckName.PLAN
    if PLAN not in statement.subjects and statement.predicate.get("plan") is None:
        return not_checked(name, "no plan was sealed before this audit: its questions may have been chosen afterwards")
    try:
        plan = read_plan(files.read(PLAN), item=PLAN)
        manifest = expect_object(files.parsed(MANIFEST), item=MANIFEST)
        problem = _problem(plan, manifest, statement)
    except EvidenceError as error:
        return failed(name, one_line(error), files=[PLAN])
    if problem is not None:
        return failed(name, printable(problem), files=[PLAN])
    signer, when = plan.statement.signer, plan.statement.signed_at.isoformat()
    if signer != statement.signer:
        trust = check_trust(plan.detached.certificate, (), pinned, moment=plan.statement.signed_at)
        if trust.status is not CheckStatus.PASS:
            who = f"{signer.common_name}, {signer.fingerprint}"
            return not_checked(name, printable(f"the planned audit was made, but the plan is sealed by {who}"))
    detail = f"model, SAEs, suites, thresholds and code are those of the plan sealed at {when} by its signer's clock"
    return passed(name, detail)


def plan_info(plan: Plan) -> dict[str, Json]:
    """Return what the manifest says of the plan, and the reports print."""
    statement = plan.statement
    return {
        "signed_at": statement.signed_at.isoformat(),
        "common_name": statement.signer.common_name,
        "fingerprint": statement.signer.fingerprint,
        "digest": statement.digest,
    }


def _problem(plan: Plan, manifest: Mapping[str, Json], statement: Statement) -> str | None:
    run = expect_object(manifest.get("run"), item=f"{MANIFEST}, run")
    if statement.predicate.get("plan") != plan.statement.digest:
        return f"the signed statement names another plan than {PLAN}"
    if run.get("plan") != plan_info(plan):
        return f"{MANIFEST} says something else of the plan than {PLAN}"
    if plan.statement.signed_at > statement.signed_at:
        return f"the plan was sealed at {plan.statement.signed_at.isoformat()}, after the audit began"
    different = plan_differences(plan, _content_of(manifest, run))
    return f"the audit is not the planned one: {'; '.join(different[:_NAMED])}" if different else None


def _content_of(manifest: Mapping[str, Json], run: Mapping[str, Json]) -> dict[str, Json]:
    """Return what a bundle's manifest says was measured, in the form of a plan."""
    environment = expect_object(run.get("environment"), item=f"{MANIFEST}, run.environment")
    return {
        "schema": PLAN_SCHEMA,
        **{key: manifest.get(key) for key in ("model", "saes", "controls", "suites", "format")},
        "config": run.get("config"),
        "tool": {
            "version": expect_text(run.get("tool_version"), item=f"{MANIFEST}, run.tool_version"),
            "code": environment.get(MEASURING_CODE),
        },
    }


def _shared(planned: Json, found: Json) -> Json:
    if not isinstance(planned, list) or not isinstance(found, list):
        return found
    return [record for record in planned if record in found]


def _compare(path: str, planned: Json, found: Json) -> list[str]:
    """Return a line for each leaf that differs."""
    if isinstance(planned, Mapping) and isinstance(found, Mapping):
        keys = sorted(set(planned) | set(found))
        return [
            line
            for key in keys
            for line in _compare(f"{path}.{key}" if path else key, planned.get(key), found.get(key))
        ]
    if isinstance(planned, list) and isinstance(found, list) and len(planned) == len(found):
        pairs = enumerate(zip(planned, found, strict=True))
        return [line for n, (one, other) in pairs for line in _compare(f"{path}[{n}]", one, other)]
    if digest_json([planned]) == digest_json([found]):
        return []
    return [f"{path}: planned {_short(planned)}, found {_short(found)}"]


def _short(value: Json) -> str:
    if isinstance(value, list):
        return f"{len(value)} of them"
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _wrong(item: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(item=item, expected=expected, found=found, hint="Make the plan again with `affidavit plan`.")
