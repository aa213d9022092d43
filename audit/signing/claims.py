"""What a bundle claims in three places, and whether the places agree: manifest.json, findings.json, the statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from audit.config import SealLevel
from audit.digests import Json, canonical_json, digest_bytes
from audit.errors import EvidenceError
from audit.records import SEAL_LEVEL
from audit.signing.bundle_files import FINDINGS, MANIFEST
from audit.signing.certificates import Certificate
from audit.signing.checks import one_line
from audit.signing.documents import Documents
from audit.signing.statement import SignerBlock, Statement
from audit.signing.strict_json import expect_array, expect_object, expect_text

_STATEMENT = "signed statement"
_MANIFEST_SCHEMA = "affidavit/manifest/1"
_FINDINGS_SCHEMA = "affidavit/findings/6"
_FINDINGS_KEYS = frozenset({"model", "saes", "suites", "concepts", "ladder"})


def claim_problems(
    manifest: Mapping[str, Json], files: Documents, statement: Statement, certificate: Certificate
) -> dict[str, str]:
    """Return what is claimed differently in two places: the file at fault -> why. Empty when all agree.

    Args:
        manifest: manifest.json, parsed.
        files: of the bundle.
        statement: the signed statement.
        certificate: the signer's.
    """
    problems = record_problems(manifest, files, signed_at=statement.signed_at, certificate=certificate)
    if problems:
        return problems
    try:
        # The manifest claims what the findings claim, by now.
        different = _differences(_claims(statement.predicate, item=_STATEMENT), _claims(manifest, item=MANIFEST))
        if statement.predicate.get("findings") != digest_bytes(files.read(FINDINGS)):
            different.append("findings")
        unlike = _unlike_the_statement(expect_object(manifest.get("run"), item=f"{MANIFEST}, run"), statement)
    except EvidenceError as error:
        return {MANIFEST: one_line(error)}
    if different:
        return {FINDINGS: f"{FINDINGS} and the signed statement disagree about: {', '.join(different)}"}
    if unlike:
        return {MANIFEST: f"{MANIFEST} and the signed statement disagree about: {', '.join(unlike)}"}
    return {}


def _unlike_the_statement(run: Mapping[str, Json], statement: Statement) -> list[str]:
    """Return what the reports print of the audit's place and plan that the statement does not say."""
    before = None
    if statement.previous is not None:
        before = {"sequence": statement.sequence - 1, "digest": statement.previous}
    different = [] if run.get("previous") == before else ["run.previous"]
    if (run.get("plan") is None) != (statement.predicate.get("plan") is None):
        different.append("run.plan")
    return different


def copy_problems(manifest: Mapping[str, Json], statement: Statement, certificate: Certificate) -> list[str]:
    """Return what the manifest of a redacted copy claims otherwise than the seal; its findings are others by nature.

    Raises:
        EvidenceError: the manifest is not of the documented form.
    """
    run = expect_object(manifest.get("run"), item=f"{MANIFEST}, run")
    different = _unlike_the_statement(run, statement)
    different += seal_differences(run, statement.signed_at, certificate)
    different += _differences(_claims(statement.predicate, item=_STATEMENT), _claims(manifest, item=MANIFEST))
    if run.get("findings_digest") != statement.predicate.get("findings"):
        different.append("run.findings_digest")
    return different


def record_problems(
    manifest: Mapping[str, Json], files: Documents, *, signed_at: datetime, certificate: Certificate
) -> dict[str, str]:
    """Return what the manifest claims otherwise than the findings, the seal's owner or its second: file -> why.

    Args:
        manifest: manifest.json, parsed.
        files: with findings.json.
        signed_at: when the seal says that it was made.
        certificate: the signer's.
    """
    try:
        findings = expect_object(files.parsed(FINDINGS), item=FINDINGS)
        claimed = _claims(findings, item=FINDINGS)
    except EvidenceError as error:
        return {FINDINGS: one_line(error)}
    missing = sorted(_FINDINGS_KEYS - set(findings))
    if findings.get("schema") != _FINDINGS_SCHEMA or missing:
        return {
            FINDINGS: f"{FINDINGS} is not of the schema {_FINDINGS_SCHEMA} (missing: {', '.join(missing) or 'none'})"
        }
    try:
        different = _manifest_differences(manifest, claimed, digest_bytes(files.read(FINDINGS)), signed_at, certificate)
        different += _differences(_records(manifest, item=MANIFEST), _records(findings, item=FINDINGS))
    except EvidenceError as error:
        return {MANIFEST: one_line(error)}
    if different:
        return {MANIFEST: f"{MANIFEST} disagrees with {FINDINGS} or the seal about: {', '.join(different)}"}
    return {}


@dataclass(frozen=True, slots=True)
class SealTerms:
    """The PAdES levels in a manifest: which one the configuration asked for, and which one the seal has."""

    asked: str = SealLevel.B_B.value
    made: str = SealLevel.B_B.value

    @property
    def stamped(self) -> bool:
        """Whether the seal was made with a timestamp."""
        return self.made != SealLevel.B_B.value

    @property
    def stamp_missing(self) -> bool:
        """Whether the seal was made without the timestamp that the configuration asked for."""
        return not self.stamped and self.asked != SealLevel.B_B.value


def seal_terms(files: Documents) -> SealTerms:
    """Return the levels that a manifest names; B-B where it names none, or cannot be read, which other checks tell."""
    try:
        run = expect_object(expect_object(files.parsed(MANIFEST), item=MANIFEST).get("run"), item="")
        config = expect_object(run.get("config", {}), item="config")
        asked = expect_object(config.get("seal", {}), item="seal").get("level", SealLevel.B_B.value)
        made = expect_object(run.get("environment", {}), item="environment").get(SEAL_LEVEL, SealLevel.B_B.value)
        return SealTerms(expect_text(asked, item="level"), expect_text(made, item="level"))
    except EvidenceError:
        return SealTerms()


def _manifest_differences(
    manifest: Mapping[str, Json],
    claimed: Mapping[str, Json],
    digest: str,
    signed_at: datetime,
    certificate: Certificate,
) -> list[str]:
    run = expect_object(manifest.get("run"), item=f"{MANIFEST}, run")
    stated = _claims(manifest, item=MANIFEST)
    different = _differences(stated, claimed)
    if manifest.get("schema") != _MANIFEST_SCHEMA:
        different.append("schema")
    if run.get("findings_digest") != digest:
        different.append("run.findings_digest")
    return [*different, *seal_differences(run, signed_at, certificate)]


def seal_differences(run: Mapping[str, Json], signed_at: datetime, certificate: Certificate) -> list[str]:
    """Return what a manifest says of the seal's owner and second that is not so.

    Raises:
        EvidenceError: the manifest is not of the documented form.
    """
    seal = expect_object(run.get("seal"), item=f"{MANIFEST}, run.seal")
    # The manifest writes an absent organisation as an empty text.
    owner = {key: value or "" for key, value in SignerBlock.of(certificate).as_json().items()}
    different = [f"run.seal.{key}" for key in sorted(set(owner) | set(seal)) if seal.get(key) != owner.get(key)]
    if _moment(run.get("created_at")) != signed_at:
        different.append("run.created_at")
    return different


def _claims(source: Mapping[str, Json], *, item: str) -> dict[str, Json]:
    """Return what each of the three places says about the audit's subject, in one form."""
    suites = source.get("suites")
    # The statement has {id: digest}; manifest.json and findings.json have a list of records.
    pairs = (
        [(name, expect_text(digest, item=f"{item}, suites")) for name, digest in suites.items()]
        if isinstance(suites, Mapping)
        else [_text_pair(suite, "id", item=f"{item}, suites") for suite in expect_array(suites, item=f"{item}, suites")]
    )
    return {
        "model": _text_pair(source.get("model"), "name", item=f"{item}, model"),
        "saes": tuple(
            _sae_pair(sae, item=f"{item}, saes") for sae in expect_array(source.get("saes"), item=f"{item}, saes")
        ),
        "suites": tuple(sorted(pairs)),
        "ladder": source.get("ladder"),
    }


def _records(source: Mapping[str, Json], *, item: str) -> dict[str, Json]:
    """Return all that manifest.json and findings.json say of what was audited: the reports print the latter."""
    saes = [expect_object(sae, item=f"{item}, saes") for sae in expect_array(source.get("saes"), item=f"{item}, saes")]
    return {
        "record of model": source.get("model"),
        "records of saes": [sae.get("record", sae) for sae in saes],
        "records of suites": source.get("suites"),
        "format": source.get("format"),
    }


def _sae_pair(value: Json, *, item: str) -> tuple[str, str]:
    # findings.json says more of an SAE than what it is; that part is its record.
    result = expect_object(value, item=item)
    return _text_pair(result.get("record", result), "name", item=item)


def _text_pair(value: Json, key: str, *, item: str) -> tuple[str, str]:
    record = expect_object(value, item=item)
    return expect_text(record.get(key), item=f"{item}, {key}"), expect_text(
        record.get("digest"), item=f"{item}, digest"
    )


def _differences(one: Mapping[str, Json], other: Mapping[str, Json]) -> list[str]:
    # As canonical JSON: in Python True equals 1.
    return [key for key in one if canonical_json(one[key]) != canonical_json(other[key])]


def _moment(value: Json) -> datetime | None:
    item = f"{MANIFEST}, run.created_at"
    try:
        moment = datetime.fromisoformat(expect_text(value, item=item))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
