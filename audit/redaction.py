"""Redacted copies of sealed bundles: texts withheld, everything else as it was, still under the original signature."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from audit import __version__
from audit.digests import Json, canonical_json
from audit.errors import EvidenceError, UsageError
from audit.evidence.content import read_content, text_columns, write_withheld
from audit.exports.formats import make_exports
from audit.exports.source import ExportSource
from audit.printing import copied_record, html_report, pdf_report
from audit.records import (
    WITHHELD_PIECE,
    EvidenceContent,
    Findings,
    Withheld,
    parse_record,
)
from audit.signing.attested import VerifyResult
from audit.signing.bundle_files import (
    ATTESTATION,
    CERTIFICATE,
    EVIDENCE,
    EXPORTS,
    FINDINGS,
    MANIFEST,
    PLAN,
    POLICY,
    REDACTION,
    REPORT_HTML,
    REPORT_PDF,
    SALTS,
)
from audit.signing.bundle_files import (
    read_content as read_file,
)
from audit.signing.checks import CheckStatus
from audit.signing.redacted import Rendering, stand_in, stand_in_value, verify_copy
from audit.signing.redaction_record import RedactionRecord
from audit.signing.statement import Statement
from audit.signing.strict_json import parse_json
from audit.signing.texts import (
    TEXTS_KEY,
    Leaf,
    Salts,
    TextsClaim,
    claim_texts,
    node_labels,
    prompt_text,
    replace_texts,
)
from audit.signing.verify import verify_bundle
from audit.workspace import new_folder
from reports.pdf import check_pdf_libraries

_KEPT = frozenset({CERTIFICATE, MANIFEST, PLAN, POLICY})
_SHARDS = "activations/"
_MADE = frozenset({EVIDENCE, FINDINGS, REPORT_HTML, REPORT_PDF, SALTS}) | EXPORTS
# What the bytes of a report depend on.
_MAKERS = ("fonttools", "jinja2", "matplotlib", "networkx", "numpy", "pikepdf", "pydyf", "pyphen", "weasyprint")


@dataclass(frozen=True, slots=True)
class Redaction:
    """A redacted copy that verifies.

    Attributes:
        folder: the copy.
        withheld: what it withholds, counted.
        characters: how long the withheld texts of findings.json are together.
    """

    folder: Path
    withheld: Withheld
    characters: int

    def as_json(self) -> dict[str, Json]:
        """Return the redaction as a JSON object."""
        return {
            "copy": str(self.folder),
            "statement": self.withheld.statement,
            "concepts": list(self.withheld.parts),
            "texts": self.withheld.texts,
            "withheld": {
                "prompts": self.withheld.prompts,
                "labels": self.withheld.labels,
                "continuations": self.withheld.continuations,
            },
        }


def claim_of(folder: Path, findings_json: bytes, salts: Salts) -> TextsClaim:
    """Return what a statement says of the texts of an unsealed bundle.

    Args:
        folder: the bundle; its database is complete.
        findings_json: the bytes of findings.json.
        salts: the bundle's secret.
    """
    claim, _ = claim_texts(parse_json(findings_json, item=FINDINGS), read_content(folder), salts)
    return claim


def redact_bundle(bundle: Path, out: Path, *, suites: Sequence[str], concepts: Sequence[str]) -> Redaction:
    """Write a copy of a sealed bundle in which texts are withheld; it appears under its name when it verifies.

    Args:
        bundle: the sealed bundle; it is not changed.
        out: the copy's folder, which must not exist.
        suites: ids of suites whose texts are withheld.
        concepts: ids of concepts and mixes whose texts are withheld; a concept takes the mixes that name it with it.
            Neither suites nor concepts: every text.

    Raises:
        UsageError: an unknown suite or concept, nothing to withhold, or a bundle that cannot be redacted.
        EvidenceError: the bundle does not verify, or holds files or columns that this version does not know.
        OutputError: `out` exists, lies in the bundle, or cannot be written.
    """
    check_pdf_libraries()
    _check_places(bundle, out)
    original = _read_original(bundle)
    chosen = _chosen(original.findings, suites=suites, concepts=concepts)
    plan = _plan(original, chosen)
    with new_folder(out) as unfinished:
        record = _write_copy(bundle, unfinished, original, plan)
        _require_verified(unfinished)
    return Redaction(out, record.withheld, plan.characters)


def verify_redacted(folder: Path, *, trusted: Path | None, now: datetime | None, render: bool) -> VerifyResult:
    """Return the outcome of every check of a redacted copy; `render` makes reports and exports again and compares."""
    return verify_copy(
        folder, trusted=trusted, read_evidence=read_content, render=_render_again if render else None, now=now
    )


@dataclass(frozen=True, slots=True)
class _Original:
    statement: Statement
    value: Json
    findings: Findings
    content: EvidenceContent
    leaves: tuple[Leaf, ...]
    salts: Salts


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which prompts and places are withheld; `characters` of findings.json among them."""

    parts: tuple[str, ...]
    prompts: frozenset[int]
    places: frozenset[str]
    characters: int


def _check_places(bundle: Path, out: Path) -> None:
    if (bundle / REDACTION).exists():
        raise UsageError(
            item=str(bundle),
            expected="the original bundle",
            found="a redacted copy",
            hint="Redact the original again, with everything that shall be withheld.",
        )
    if out.resolve().is_relative_to(bundle.resolve()):
        raise UsageError(
            item=f"--out {out}",
            expected="a folder outside the bundle",
            found="one inside it",
            hint="A sealed bundle is never changed: choose another --out.",
        )


def _read_original(bundle: Path) -> _Original:
    result = verify_bundle(bundle, trusted=None)
    if not result.ok or result.statement is None:
        raise _refused(str(bundle), "a bundle that verifies", _failures(result))
    statement = result.statement
    claimed = statement.predicate.get(TEXTS_KEY)
    if claimed is None:
        raise UsageError(
            item=str(bundle),
            expected="a bundle whose statement commits to its texts one by one",
            found="one that was sealed by an earlier version of affidavit",
            hint="It still verifies, but no copy of it would. Run the audit again with this version.",
        )
    unknown = [name for name in statement.subjects if name not in _KEPT | _MADE and not name.startswith(_SHARDS)]
    unknown += text_columns(bundle)
    if unknown:
        raise _refused(str(bundle), "files and columns that this version knows", ", ".join(unknown)[:300])
    value = parse_json(_signed_file(bundle, FINDINGS, statement), item=FINDINGS)
    salts = Salts.read(_signed_file(bundle, SALTS, statement), item=SALTS)
    content = read_content(bundle)
    claim, leaves = claim_texts(value, content, salts)
    if claim != TextsClaim.read(claimed, item="signed statement, texts"):
        raise _refused(str(bundle), "the texts and tables that were signed", "others")
    return _Original(statement, value, parse_record(Findings, value, where=FINDINGS), content, leaves, salts)


def _signed_file(bundle: Path, name: str, statement: Statement) -> bytes:
    return read_file(bundle, name, digest=statement.subjects[name])


def _chosen(findings: Findings, *, suites: Sequence[str], concepts: Sequence[str]) -> frozenset[str]:
    """Return the concepts and mixes that are named, and the mixes that name one of them."""
    parts = {suite.id: frozenset((*suite.concepts, *suite.mixes)) for suite in findings.suites}
    every = frozenset[str]().union(*parts.values())
    for kind, names, known in (("suite", suites, parts), ("concept or mix", concepts, every)):
        if unknown := [name for name in names if name not in known]:
            raise UsageError(
                item=f"{kind} {unknown[0][:80]!r}",
                expected=f"a {kind} of the audit: {', '.join(sorted(known))}",
                found="none of that name",
                hint="Name those whose texts shall be withheld, or none for every text.",
            )
    chosen = frozenset(concepts).union(*(parts[name] for name in suites)) if suites or concepts else every
    chosen |= {mix.id for mix in findings.mixes if chosen & set(mix.concepts)}
    chosen -= frozenset[str]().union(*(parts[suite.id] for suite in findings.suites if suite.withheld))
    if not chosen:
        raise UsageError(
            item="what to withhold",
            expected="texts that the bundle shows",
            found="suites that were withheld from the start",
            hint="The bundle itself shows none of these texts.",
        )
    return chosen


def _plan(original: _Original, chosen: Collection[str]) -> _Plan:
    prompts = original.content.prompts
    texts = {prompt.text for prompt in prompts if prompt.part in chosen}
    # A text that another concept has too would give the withheld one away.
    held = [prompt for prompt in prompts if prompt.part in chosen or prompt.text in texts]
    causal = original.findings.causal
    suppressions = causal.suppressions if causal is not None else ()
    written = tuple(f"causal/suppressions/{n}/" for n, one in enumerate(suppressions) if one.concept in chosen)
    # Labels by tokens quote whatever prompts a feature fires on, so that none of them can stay.
    own = {leaf.place: leaf.length for leaf in original.leaves if leaf.place.startswith(("cards/", *written))}
    return _Plan(
        parts=tuple(sorted({prompt.part for prompt in held})),
        prompts=frozenset(prompt.prompt for prompt in held),
        places=frozenset({prompt_text(prompt).place for prompt in held} | set(own)),
        characters=sum(own.values()),
    )


def _write_copy(bundle: Path, folder: Path, original: _Original, plan: _Plan) -> RedactionRecord:
    """Write every file of the copy into an empty folder."""
    for name in (ATTESTATION, *original.statement.subjects):
        if name in _KEPT or name == ATTESTATION or name.startswith(_SHARDS):
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle / name, target)
    leaves = {leaf.place: leaf for leaf in original.leaves}
    findings = replace_texts(
        original.value,
        own=lambda text: stand_in_value(text, leaves[text.place]) if text.place in plan.places else text.value,
        context=lambda prompt, pieces: [WITHHELD_PIECE] * len(pieces) if f"prompt/{prompt}" in plan.places else pieces,
    )
    findings_json = canonical_json(findings)
    (folder / FINDINGS).write_bytes(findings_json)
    before, after = node_labels(original.value), node_labels(findings)
    write_withheld(
        bundle,
        folder,
        prompts={number: stand_in(leaves[f"prompt/{number}"]) for number in sorted(plan.prompts)},
        labels={node: label for node, label in after.items() if before[node] != label},
    )
    record = RedactionRecord(
        statement=original.statement.digest,
        parts=plan.parts,
        made_with=_versions(),
        leaves=original.leaves,
        salts={place: original.salts.of(place) for place in leaves if place not in plan.places},
    )
    (folder / REDACTION).write_bytes(record.as_bytes())
    manifest = read_file(folder, MANIFEST, digest=original.statement.subjects[MANIFEST])
    made = _render_again(record, findings_json, manifest)
    # A bundle of an earlier version has no exports, and its copy none that the statement does not name.
    exports = {name: data for name, data in made.exports.items() if name in original.statement.subjects}
    for name, data in (made.reports | exports).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return record


def _require_verified(folder: Path) -> None:
    result = verify_redacted(folder, trusted=None, now=None, render=False)
    if not result.ok:
        raise _refused(str(folder.name), "a copy that verifies", _failures(result))


def _render_again(record: RedactionRecord, findings_json: bytes, manifest_json: bytes) -> Rendering:
    """Return reports and exports of a copy: only its record, its findings and the manifest decide about them."""
    copy = copied_record(findings_json, manifest_json, withheld=record.withheld)
    return Rendering(
        reports={REPORT_HTML: html_report(copy), REPORT_PDF: pdf_report(copy)},
        # The database of a copy is another file than the one whose digest the manifest has.
        exports=make_exports(ExportSource(copy.findings, copy.run, evidence=None, withheld=record.withheld)),
        made_with=_versions(),
    )


def _versions() -> dict[str, str]:
    return {"affidavit": __version__, **{name: version(name) for name in _MAKERS}}


def _failures(result: VerifyResult) -> str:
    return "; ".join(f"{check.name}: {check.detail}" for check in result.checks if check.status is CheckStatus.FAIL)


def _refused(item: str, expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        item=item,
        expected=expected,
        found=found,
        hint="Nothing was written. Run `affidavit verify` on the bundle, or get an intact copy of it.",
    )
