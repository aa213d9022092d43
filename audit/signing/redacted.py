"""Verify a redacted copy against the statement that was signed over its original."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.digests import Json, canonical_json
from audit.errors import EvidenceError
from audit.records import WITHHELD_PIECE, EvidenceContent, withheld_text
from audit.signing.attested import (
    Attested,
    VerifyResult,
    check_identity,
    check_trust,
    check_validity,
    pinned_signer,
    read_attested,
    unreadable,
)
from audit.signing.bundle_files import (
    CERTIFICATE,
    EVIDENCE,
    EXPORTS,
    FINDINGS,
    MANIFEST,
    REDACTION,
    REPORT_HTML,
    REPORT_PDF,
    SALTS,
)
from audit.signing.checks import (
    Check,
    CheckName,
    CheckStatus,
    CopyCheckName,
    failed,
    not_checked,
    one_line,
    passed,
    printable,
)
from audit.signing.claims import copy_problems
from audit.signing.contents import attachment_in_pdf, check_findings
from audit.signing.plan import check_plan
from audit.signing.redaction_record import RedactionRecord, read_record
from audit.signing.statement import Statement
from audit.signing.strict_json import expect_object
from audit.signing.texts import (
    TEXTS_KEY,
    Leaf,
    Text,
    TextsClaim,
    commitment,
    findings_digests,
    findings_texts,
    node_labels,
    prompt_text,
    replace_texts,
    root_of,
    wrong_form,
)

# In the order in which they are reported.
COPY_CHECKS: tuple[CheckName | CopyCheckName, ...] = (
    CheckName.ATTESTATION_READABLE,
    CheckName.SIGNATURE,
    CopyCheckName.REDACTION_RECORD,
    CheckName.FILES_INTACT,
    CheckName.SIGNER_TRUSTED,
    CheckName.SIGNER_IDENTITY,
    CheckName.VALIDITY,
    CheckName.TIMESTAMP,
    CheckName.PDF_SIGNATURE,
    CopyCheckName.TEXTS,
    CopyCheckName.FINDINGS,
    CopyCheckName.EVIDENCE,
    CheckName.FINDINGS_AGREE,
    CheckName.MANIFEST_AGREES,
    CheckName.PLAN,
    CheckName.PRINTED_TEXT,
    CheckName.EXPORTS_AGREE,
    CheckName.RECOMPUTED,
)
_RECOMPUTED = "figures are computed again from the evidence of an original, which holds the texts: verify the original"
_MADE_CHECKS = (CheckName.PRINTED_TEXT, CheckName.EXPORTS_AGREE)
# Made anew in a copy, and the exports with them where the original has any. What they hold is checked instead of their
# bytes.
_MADE_ANEW = frozenset({EVIDENCE, FINDINGS, REPORT_HTML, REPORT_PDF})
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Rendering:
    """Reports and exports as this installation makes them: name -> bytes, and library -> version."""

    reports: dict[str, bytes]
    exports: dict[str, bytes]
    made_with: Mapping[str, str]


Render = Callable[[RedactionRecord, bytes, bytes], Rendering]


def verify_copy(
    folder: Path,
    *,
    trusted: Path | None,
    read_evidence: Callable[[Path], EvidenceContent],
    render: Render | None = None,
    now: datetime | None = None,
) -> VerifyResult:
    """Return the outcome of every check of a redacted copy.

    Args:
        folder: the copy.
        trusted: a PEM certificate obtained out of band, as for a bundle.
        read_evidence: returns what the database in a folder holds.
        render: returns the reports that the record, findings.json and manifest.json give; None compares nothing.
        now: the verifier's clock, with a time zone; None compares nothing.

    Raises:
        UsageError: there is no such folder.
        EvidenceError: the folder cannot be listed.
        KeyProblem: the trusted certificate cannot be read.
    """
    pinned = pinned_signer(trusted)
    found = read_attested(folder)
    if isinstance(found, Check):
        return unreadable(found, COPY_CHECKS, redacted=True)
    statement, certificate = found.statement, found.certificate
    checks = [
        _check_files(found, statement),
        check_trust(certificate, found.issuers, pinned, moment=statement.signed_at),
        check_identity(certificate, statement, found.read),
        check_validity(certificate, statement.signed_at, now),
        not_checked(CheckName.TIMESTAMP, f"a timestamp lies in the original {REPORT_PDF}, which a copy has not"),
        not_checked(CheckName.PDF_SIGNATURE, f"the copy's {REPORT_PDF} was made again and has no seal"),
    ]
    own = [check_findings(found.files), _check_manifest(found), check_plan(found.files, statement, pinned)]
    try:
        claim = TextsClaim.read(statement.predicate.get(TEXTS_KEY), item="signed statement, texts")
        record = read_record(found.read(REDACTION), item=REDACTION)
    except EvidenceError as error:
        broken = failed(CopyCheckName.REDACTION_RECORD, one_line(error), files=[REDACTION])
        names = (*CopyCheckName, *_MADE_CHECKS)
        texts, findings, evidence, *made = (not_checked(name, f"{REDACTION} does not hold") for name in names[1:])
        made.append(not_checked(CheckName.RECOMPUTED, _RECOMPUTED))
        return found.result([broken, *checks, texts, findings, evidence, *own, *made], redacted=True)
    checks = [
        _check_record(record, claim, statement),
        *checks,
        *_check_contents(found, record, claim, read_evidence),
        *own,
    ]
    if any(check.status is CheckStatus.FAIL for check in checks):
        made = [not_checked(name, "what they say follows from files that do not hold") for name in _MADE_CHECKS]
    else:
        made = _check_made(found, record, render)
    return found.result([*checks, *made, not_checked(CheckName.RECOMPUTED, _RECOMPUTED)], redacted=True)


def _check_record(record: RedactionRecord, claim: TextsClaim, statement: Statement) -> Check:
    name = CopyCheckName.REDACTION_RECORD
    if record.statement != statement.digest:
        return failed(name, f"{REDACTION} belongs to statement {record.statement}", files=[REDACTION])
    root = root_of(record.leaves)
    if len(record.leaves) != claim.leaves or root != claim.root:
        detail = f"{len(record.leaves)} texts with root {root}; signed are {claim.leaves} with root {claim.root}"
        return failed(name, f"{REDACTION}: {detail}", files=[REDACTION])
    withheld = record.withheld
    missing = withheld.prompts + withheld.labels + withheld.continuations
    parts = ", ".join(record.parts) or "no concept"
    return passed(
        name,
        printable(
            f"withheld are {missing:,} of {claim.leaves:,} texts: {withheld.prompts:,} prompts, {withheld.labels:,}"
            f" labels, {withheld.continuations:,} continuations; of {parts}"
        ),
    )


def _check_files(found: Attested, statement: Statement) -> Check:
    name = CheckName.FILES_INTACT
    subjects, digests, refused = statement.subjects, found.contents.digests, found.contents.refused
    anew = _MADE_ANEW | (EXPORTS & set(subjects))
    kept = [each for each in subjects if each not in anew and each != SALTS]
    groups = {
        "changed": [each for each in kept if each in digests and digests[each] != subjects[each]],
        "missing": [each for each in (*kept, *sorted(anew)) if each not in digests and each not in refused],
        "not in the signed statement": [each for each in digests if each not in subjects and each != REDACTION],
        "must not be in a redacted copy": [each for each in digests if each == SALTS],
    }
    parts = [f"{what}: {', '.join(names)}" for what, names in groups.items() if names]
    parts += [f"refused: {each} ({why})" for each, why in refused.items()]
    if parts:
        at_fault = [printable(each) for names in (*groups.values(), refused) for each in names]
        return failed(name, printable("; ".join(parts)), files=at_fault)
    if CERTIFICATE not in subjects or MANIFEST not in subjects:
        return failed(name, f"the statement does not list {CERTIFICATE} and {MANIFEST}", files=[CERTIFICATE, MANIFEST])
    return passed(
        name,
        f"{len(kept)} of {len(subjects)} files have the digests that were signed; {EVIDENCE} and {FINDINGS} were"
        f" redacted, {REPORT_HTML}, {REPORT_PDF} and {len(anew - _MADE_ANEW)} exports made again, {SALTS} taken out",
    )


def _check_contents(
    found: Attested, record: RedactionRecord, claim: TextsClaim, read_evidence: Callable[[Path], EvidenceContent]
) -> tuple[Check, Check, Check]:
    """Return the checks of texts, findings and tables: everything that stands in the two redacted files."""
    findings: Json = None
    content: EvidenceContent | None = None
    try:
        findings = found.files.parsed(FINDINGS)
        second = _check_findings(findings, found.read(FINDINGS), claim)
    except EvidenceError as error:
        second = failed(CopyCheckName.FINDINGS, one_line(error), files=[FINDINGS])
    try:
        if EVIDENCE not in found.contents.digests:
            raise wrong_form(EVIDENCE, "a regular file in the copy", "none")
        content = read_evidence(found.folder)
        third = _check_tables(content, claim)
    except EvidenceError as error:
        third = failed(CopyCheckName.EVIDENCE, one_line(error), files=[EVIDENCE])
    if content is None or findings is None:
        return not_checked(CopyCheckName.TEXTS, f"{EVIDENCE} or {FINDINGS} cannot be read"), second, third
    try:
        problems = tuple(_text_problems(findings, content, record))
    except EvidenceError as error:
        return failed(CopyCheckName.TEXTS, one_line(error), files=[FINDINGS]), second, third
    if problems:
        more = f"; and {len(problems) - _NAMED:,} more" if len(problems) > _NAMED else ""
        detail = printable("; ".join(problem for _, problem in problems[:_NAMED]) + more)
        return failed(CopyCheckName.TEXTS, detail, files=sorted({name for name, _ in problems})), second, third
    kept = len(record.salts)
    detail = f"{kept:,} texts that are shown and {claim.leaves - kept:,} withheld ones are those that were signed"
    return passed(CopyCheckName.TEXTS, detail), second, third


def _check_findings(findings: Json, data: bytes, claim: TextsClaim) -> Check:
    name = CopyCheckName.FINDINGS
    if canonical_json(findings) != data:
        return failed(name, f"{FINDINGS} is not canonical JSON", files=[FINDINGS])
    different = _different(claim.findings, findings_digests(findings))
    if different:
        return failed(name, printable(f"{FINDINGS}, changed: {', '.join(different)}"), files=[FINDINGS])
    return passed(name, f"all {len(claim.findings)} parts of {FINDINGS} are those that were signed, texts aside")


def _check_tables(content: EvidenceContent, claim: TextsClaim) -> Check:
    name = CopyCheckName.EVIDENCE
    different = _different(claim.tables, content.tables)
    parts = [f"tables changed: {', '.join(different)}"] if different else []
    if content.others:
        parts.append(f"not in the original: {', '.join(content.others)}")
    if parts:
        return failed(name, printable(f"{EVIDENCE}, {'; '.join(parts)}"), files=[EVIDENCE])
    return passed(name, f"all {len(claim.tables)} tables of {EVIDENCE} hold the rows that were signed, texts aside")


def _text_problems(findings: Json, content: EvidenceContent, record: RedactionRecord) -> Iterator[tuple[str, str]]:
    """Yield each text that is not what was signed at its place: its file, and what is wrong."""
    own = findings_texts(findings)
    places = [*(prompt_text(prompt).place for prompt in content.prompts), *(text.place for text in own)]
    listed = [leaf.place for leaf in record.leaves]
    if places != listed:
        odd = sorted(set(places) ^ set(listed), key=str)[:_NAMED]
        yield REDACTION, f"texts at other places than were signed: {', '.join(odd) or 'another order'}"
        return
    leaves = {leaf.place: leaf for leaf in record.leaves}
    withheld_parts: set[str] = set()
    for prompt in content.prompts:
        text = prompt_text(prompt)
        leaf, salt = leaves[text.place], record.salts.get(text.place)
        if salt is None:
            withheld_parts.add(prompt.part)
            held = prompt.text == stand_in(leaf) and all(piece == WITHHELD_PIECE for piece in prompt.pieces)
        else:
            held = _is_signed(text, leaf, salt)
        if not held:
            yield EVIDENCE, f"{EVIDENCE}, {text.place}: not the text that was signed, nor its digest and length"
    for text in own:
        leaf, salt = leaves[text.place], record.salts.get(text.place)
        if not (text.value == stand_in_value(text, leaf) if salt is None else _is_signed(text, leaf, salt)):
            yield FINDINGS, f"{FINDINGS}, {text.place}: not the text that was signed, nor its digest and length"
    yield from _context_problems(findings, content)
    if content.labels != {**dict.fromkeys(content.labels, ""), **node_labels(findings)}:
        yield EVIDENCE, f"{EVIDENCE}, table node: a feature's label is not that of its card"
    if sorted(withheld_parts) != list(record.parts):
        yield REDACTION, f"{REDACTION} names other concepts than those whose prompts are withheld"


def _context_problems(findings: Json, content: EvidenceContent) -> Iterator[tuple[str, str]]:
    pieces = {str(prompt.prompt): list(prompt.pieces) for prompt in content.prompts}
    wrong: list[str] = []

    def compare(prompt: str, shown: list[Json]) -> Sequence[Json]:
        if pieces.get(prompt) != shown:
            wrong.append(prompt)
        return shown

    replace_texts(findings, own=lambda text: text.value, context=compare)
    for prompt in wrong:
        yield FINDINGS, f"{FINDINGS}, a context of prompt {prompt}: other tokens than the prompt's"


def stand_in(leaf: Leaf) -> str:
    """Return what stands for a withheld text: the commitment and the length that its leaf holds."""
    return withheld_text(leaf.commitment, leaf.length)


def stand_in_value(text: Text, leaf: Leaf) -> Json:
    """Return what stands for the value of a withheld text of findings.json, the digest in the first of its fields."""
    if isinstance(text.value, Mapping):
        return dict.fromkeys(text.value, WITHHELD_PIECE) | {"prompt": stand_in(leaf)}
    return stand_in(leaf)


def _is_signed(text: Text, leaf: Leaf, salt: bytes) -> bool:
    return commitment(text, salt) == leaf.commitment and text.length == leaf.length


def _check_manifest(found: Attested) -> Check:
    name = CheckName.MANIFEST_AGREES
    try:
        manifest = found.read(MANIFEST)
        if found.contents.digests[MANIFEST] != found.statement.subjects.get(MANIFEST):
            return failed(name, f"{MANIFEST} is not the signed one", files=[MANIFEST])
        if attachment_in_pdf(found.read(REPORT_PDF), MANIFEST) != manifest:
            return failed(name, f"the attachment {MANIFEST} of {REPORT_PDF} is another one", files=[REPORT_PDF])
        claims = expect_object(found.files.parsed(MANIFEST), item=MANIFEST)
        different = copy_problems(claims, found.statement, found.certificate)
    except EvidenceError as error:
        return failed(name, one_line(error), files=[MANIFEST, REPORT_PDF])
    if different:
        detail = f"{MANIFEST} disagrees with the seal or the signed statement about: {', '.join(different)}"
        return failed(name, detail, files=[MANIFEST])
    return passed(name, f"{MANIFEST} is the signed one, and attached to {REPORT_PDF}; it speaks of the original")


def _check_made(found: Attested, record: RedactionRecord, render: Render | None) -> list[Check]:
    """Return whether reports and exports are what findings.json gives, where they are made again."""
    exported = sorted(EXPORTS & set(found.statement.subjects))
    named = {
        CheckName.PRINTED_TEXT: (f"{REPORT_HTML} and {REPORT_PDF}", [REPORT_HTML, REPORT_PDF]),
        CheckName.EXPORTS_AGREE: (f"{len(exported)} exports" if exported else "the exports", exported),
    }
    if render is None:
        return [
            not_checked(
                name,
                f"what {what} say is nobody's word: they were made again from {FINDINGS};"
                " --recompute makes them once more and compares",
            )
            for name, (what, _) in named.items()
        ]
    try:
        made = render(record, found.read(FINDINGS), found.read(MANIFEST))
    except EvidenceError as error:
        return [failed(name, one_line(error), files=[FINDINGS, MANIFEST]) for name in named]
    versions = sorted(
        key for key in {**made.made_with, **record.made_with} if made.made_with.get(key) != record.made_with.get(key)
    )
    wanted = ", ".join(f"{key} {record.made_with.get(key, 'unknown')}" for key in versions)
    everything = made.reports | made.exports
    return [
        _compared(found, name, everything, what=what, files=files, wanted=wanted)
        for name, (what, files) in named.items()
    ]


def _compared(
    found: Attested, name: CheckName, made: Mapping[str, bytes], *, what: str, files: Sequence[str], wanted: str
) -> Check:
    if not files:
        return not_checked(name, "the original has no exports: an earlier version made it")
    try:
        different = [file for file in files if found.read(file) != made[file]]
    except EvidenceError as error:
        return failed(name, one_line(error), files=files)
    if not different:
        return passed(name, f"{what} are, byte for byte, what {FINDINGS} and {MANIFEST} give")
    if wanted:
        said = f"{', '.join(different)} differ from what this installation makes; needed: {wanted}"
        return not_checked(name, printable(said))
    return failed(name, f"not what {FINDINGS} and {MANIFEST} give: {', '.join(different)}", files=different)


def _different(signed: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    return sorted(key for key in {*signed, *found} if signed.get(key) != found.get(key))
