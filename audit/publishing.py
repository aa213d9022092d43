"""The files that a reader gets: findings, exports, manifest and both reports, written into the unfinished bundle."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from audit import __version__
from audit.capture.shards import content_digest
from audit.config import AuditConfig, ExecutorKind
from audit.digests import Json, canonical_json, digest_bytes, digest_file, measuring_code
from audit.errors import OutputError
from audit.evidence.store import ACTIVATIONS, DATABASE
from audit.exports.formats import make_exports
from audit.exports.source import ExportSource
from audit.gate import judge_unsealed
from audit.gathering import Subject
from audit.planning import public_config
from audit.printed import REPORT_CODE
from audit.printing import Record, html_report, pdf_report
from audit.records import SEAL_LEVEL, Findings, GateVerdict, PlanInfo, RunInfo, SealInfo, as_json, parse_record
from audit.redaction import claim_of
from audit.request import AuditRequest
from audit.signing.bundle_files import EXPORTS, FINDINGS, MANIFEST, PLAN, POLICY, REPORT_HTML, REPORT_PDF, SALTS
from audit.signing.pdf import sign_pdf
from audit.signing.plan import MEASURING_CODE, Plan, plan_info
from audit.signing.texts import SECRET_BYTES, TEXTS_KEY, Salts, TextsClaim
from audit.signing.timestamps import attainable_level
from reports.rendering import code_digest

MANIFEST_SCHEMA = "affidavit/manifest/1"
_VERSIONED = (
    "torch",
    "transformers",
    "duckdb",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "weasyprint",
    "pyhanko",
    "jinja2",
)


@dataclass(frozen=True, slots=True)
class Published:
    """What the signed statement says of the files: the digest of the findings, and the texts by digest.

    `policy` is the answer of the policy that the report prints, if one was put.
    """

    findings_digest: str
    texts: TextsClaim
    policy: GateVerdict | None = None


def publish(findings: Findings, subject: Subject, request: AuditRequest, folder: Path) -> Published:
    """Write findings, salts, exports, manifest and both reports."""
    findings_json = canonical_json(as_json(findings))
    digest = digest_bytes(findings_json)
    certificate = request.signer.certificate
    level = attainable_level(request.config.seal)
    run = RunInfo(
        created_at=request.created_at.isoformat(timespec="seconds"),
        tool_version=__version__,
        command=request.command,
        config=public_config(request.config),
        environment=_environment(request.config) | {SEAL_LEVEL: level.value},
        findings_digest=digest,
        bundle_name=request.out.name,
        seal=SealInfo(
            common_name=certificate.common_name,
            organisation=certificate.organisation or "",
            fingerprint=certificate.fingerprint,
            algorithm=certificate.algorithm.value,
        ),
        plan=None if request.plan is None else parse_record(PlanInfo, plan_info(request.plan)),
        previous=request.previous,
    )
    if request.policy is not None:
        verdict = judge_unsealed(folder, request.policy, findings, run, today=request.created_at.date())
        run = replace(run, policy=verdict)
    try:
        if request.plan is not None:
            (folder / PLAN).write_bytes(request.plan.data)
        if request.policy is not None:
            (folder / POLICY).write_bytes(request.policy.data)
        (folder / FINDINGS).write_bytes(findings_json)
        # Not from the seed: whoever could make the salts again could guess texts. No result depends on it.
        salts = Salts(secrets.token_bytes(SECRET_BYTES))
        (folder / SALTS).write_bytes(salts.as_bytes())
        texts = claim_of(folder, findings_json, salts)
        exports = make_exports(ExportSource(findings, run, digest_file(folder / DATABASE)))
        for name, content in exports.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        manifest = canonical_json(_manifest(findings, subject, run, folder))
        (folder / MANIFEST).write_bytes(manifest)
        record = Record(findings, run, findings_json, manifest)
        (folder / REPORT_HTML).write_bytes(html_report(record))
        sealed = sign_pdf(
            pdf_report(record),
            request.signer,
            signed_at=request.created_at,
            reason="Seal over the evidence report of a model audit",
            level=level,
            tsa_url=request.config.seal.tsa,
        )
        (folder / REPORT_PDF).write_bytes(sealed)
    except OSError as error:
        raise OutputError(
            item=request.out.name,
            expected="room to write the report",
            found=error.strerror or type(error).__name__,
            hint="Free space and run again; captured activations are kept.",
        ) from error
    return Published(digest, texts, run.policy)


def _manifest(findings: Findings, subject: Subject, run: RunInfo, folder: Path) -> Json:
    names = [
        FINDINGS,
        SALTS,
        DATABASE,
        *([PLAN] if run.plan is not None else []),
        *([POLICY] if run.policy is not None else []),
        *EXPORTS,
        *(f"{ACTIVATIONS}/{path.name}" for path in (folder / ACTIVATIONS).iterdir()),
    ]
    return {
        "schema": MANIFEST_SCHEMA,
        "run": as_json(run),
        "model": as_json(findings.model),
        "saes": [as_json(instrument.sae.record) for instrument in subject.instruments],
        "controls": [as_json(control.record) for control in subject.controls],
        "suites": as_json(findings.suites),
        "format": findings.format,
        "exclusions": {sae.record.name: as_json(sae.exclusions) for sae in findings.saes},
        "ladder": as_json(findings.ladder),
        "activations_digest": content_digest(folder / ACTIVATIONS),
        "files": {name: digest_file(folder / name) for name in sorted(names)},
    }


def predicate(findings: Findings, published: Published, plan: Plan | None = None) -> Mapping[str, Json]:
    """Return what the signed statement says of the audit."""
    planned = {} if plan is None else {"plan": plan.statement.digest}
    return {
        **planned,
        "findings": published.findings_digest,
        "model": {"name": findings.model.name, "digest": findings.model.digest},
        "saes": [{"name": sae.record.name, "digest": sae.record.digest} for sae in findings.saes],
        "suites": {suite.id: suite.digest for suite in findings.suites},
        "ladder": as_json(findings.ladder),
        TEXTS_KEY: published.texts.as_json(),
    }


def _environment(config: AuditConfig) -> dict[str, str]:
    names = (*_VERSIONED, "ray") if config.capture.executor is ExecutorKind.RAY else _VERSIONED
    found = {name: version(name) for name in names}
    return found | {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        MEASURING_CODE: measuring_code(),
        REPORT_CODE: code_digest(),
    }
