"""Compare bundles and write what was found as a sealed folder, whole or not at all."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from audit import __version__
from audit.config import SealConfig
from audit.differences.comparing import compare_bundles
from audit.differences.parents import Opened, open_parent
from audit.differences.printing import DifferenceRecord
from audit.digests import Json, canonical_json, digest_bytes
from audit.printed import REPORT_CODE
from audit.progress import Progress
from audit.records import SEAL_LEVEL, DifferenceResult, DiffMargins, DiffRun, SealInfo, as_json
from audit.signing.bundle_files import DIFFERENCE, MANIFEST, REPORT_HTML, REPORT_PDF
from audit.signing.difference import difference_predicate
from audit.signing.pdf import sign_pdf
from audit.signing.seal import seal_bundle
from audit.signing.signer import Signer
from audit.signing.statement import StatementKind
from audit.signing.timestamps import attainable_level
from audit.workspace import new_folder
from reports.pdf import check_pdf_libraries
from reports.rendering import code_digest

_VERSIONED = ("duckdb", "numpy", "scipy", "pandas", "pyarrow", "weasyprint", "pyhanko", "jinja2")


@dataclass(frozen=True, slots=True)
class Parents:
    """The bundles of a comparison, and the certificate that their signers are held to.

    Args:
        base: the earlier bundle.
        new: the later one.
        noise: further bundles of the base's model.
        trusted: the certificate of the signer of all of them or of an authority above, or None.
    """

    base: Path
    new: Path
    noise: tuple[Path, ...] = ()
    trusted: Path | None = None


def write_difference(
    parents: Parents,
    out: Path,
    signer: Signer,
    *,
    now: datetime,
    command: str,
    seal: SealConfig | None = None,
    margins: DiffMargins | None = None,
    progress: Progress,
) -> DifferenceResult:
    """Verify and compare bundles, and write a sealed folder: diff.json, both reports, manifest and attestation.

    Args:
        parents: what is compared.
        out: the folder; it must not exist.
        signer: whose seal it gets.
        now: the clock, with a time zone; the seal's moment is its second.
        command: what was typed, without paths.
        seal: level and authority; None for a seal without timestamp.
        margins: the limits; None for those of the method.
        progress: listener.

    Raises:
        UsageError: the bundles are not comparable, or one is redacted.
        EvidenceError: a bundle does not verify.
        OutputError: the folder exists or cannot be written.
        EnvironmentProblem: a library of the PDF is missing, or the authority does not answer.
        KeyProblem: a certificate cannot be read, or is not valid now.
    """
    check_pdf_libraries()
    wanted = seal or SealConfig()
    moment = now.replace(microsecond=0)
    signer.require_valid_at(moment)
    level = attainable_level(wanted)
    with new_folder(out) as folder:
        opened = _open(parents, now=now, progress=progress)
        result = compare_bundles(
            opened[0], opened[1], noise=opened[2:], margins=margins or DiffMargins(), progress=progress
        )
        progress.say("writing and sealing the report")
        difference_json = canonical_json(as_json(result))
        certificate = signer.certificate
        run = DiffRun(
            created_at=moment.isoformat(),
            tool_version=__version__,
            command=command,
            environment=_environment() | {SEAL_LEVEL: level.value},
            difference_digest=digest_bytes(difference_json),
            folder_name=out.name,
            seal=SealInfo(
                common_name=certificate.common_name,
                organisation=certificate.organisation or "",
                fingerprint=certificate.fingerprint,
                algorithm=certificate.algorithm.value,
            ),
            **_look(opened[1].record.run.config.get("report")),
        )
        record = DifferenceRecord.of(result, run, difference_json)
        sealed = sign_pdf(
            record.pdf,
            signer,
            signed_at=moment,
            reason="Seal over the report of a comparison of two model audits",
            level=level,
            tsa_url=wanted.tsa,
        )
        written = {
            DIFFERENCE: difference_json,
            MANIFEST: record.manifest_json,
            REPORT_HTML: record.html,
            REPORT_PDF: sealed,
        }
        for name, content in written.items():
            (folder / name).write_bytes(content)
        seal_bundle(
            folder,
            signer,
            predicate=difference_predicate(result, run.difference_digest),
            signed_at=moment,
            tool_version=__version__,
            kind=StatementKind.DIFFERENCE,
        )
    return result


def _open(parents: Parents, *, now: datetime, progress: Progress) -> list[Opened]:
    progress.say("verifying the bundles")
    return [
        open_parent(place, trusted=parents.trusted, now=now) for place in (parents.base, parents.new, *parents.noise)
    ]


def _look(report: Json) -> dict[str, str]:
    """Return language and paper of the new audit's report: the difference is printed alike."""
    recorded = report if isinstance(report, Mapping) else {}
    return {key: value for key in ("language", "page_size") if isinstance(value := recorded.get(key), str)}


def _environment() -> dict[str, str]:
    found = {name: version(name) for name in _VERSIONED}
    return found | {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        REPORT_CODE: code_digest(),
    }
