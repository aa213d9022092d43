"""The seal of a difference: what verifies, what is caught and named, and what rules say of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.cli.root import run
from audit.differences.printing import DifferenceRecord
from audit.differences.rechecking import recheck_difference
from audit.digests import canonical_json, digest_bytes
from audit.errors import EvidenceError
from audit.progress import Silent
from audit.records import DifferenceResult, Verdict, as_json
from audit.signing.attested import VerifyResult
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.difference import difference_predicate, read_difference
from audit.signing.keys import Signer
from audit.signing.pdf import sign_pdf
from audit.signing.seal import seal_bundle
from audit.signing.statement import StatementKind
from audit.signing.verify import verify_bundle, verify_difference
from tests.conftest import MOMENT
from tests.differences.conftest import SealedDifference
from tests.differences_making import CONCEPTS


@pytest.fixture
def copy(difference: SealedDifference, tmp_path: Path) -> Iterator[Path]:
    """Yield a copy that a test may damage."""
    target = tmp_path / "copy"
    shutil.copytree(difference.folder, target)
    yield target
    shutil.rmtree(target)


def failures(result: VerifyResult) -> dict[CheckName, tuple[str, ...]]:
    """Return the files at fault of each failed check."""
    return {check.name: check.files for check in result.checks if check.status is CheckStatus.FAIL}  # type: ignore[misc]


def resealed(folder: Path, record: DifferenceRecord, signer: Signer, *, says: DifferenceResult | None = None) -> None:
    """Write and seal a record by the same key, as a forger who holds it would; `says` is what the statement tells."""
    for name in ("attestation.sigstore.json", "certificate.pem"):
        (folder / name).unlink(missing_ok=True)
    (folder / "diff.json").write_bytes(record.difference_json)
    (folder / "manifest.json").write_bytes(record.manifest_json)
    (folder / "report.html").write_bytes(record.html)
    (folder / "report.pdf").write_bytes(sign_pdf(record.pdf, signer, signed_at=MOMENT, reason="again"))
    seal_bundle(
        folder,
        signer,
        predicate=difference_predicate(says or record.result, record.run.difference_digest),
        signed_at=MOMENT,
        tool_version="0.1.0",
        kind=StatementKind.DIFFERENCE,
    )


def rewritten(record: DifferenceRecord, result: DifferenceResult) -> DifferenceRecord:
    """Return the record with another result, all digests of it made anew."""
    data = canonical_json(as_json(result))
    return DifferenceRecord.of(result, replace(record.run, difference_digest=digest_bytes(data)), data)


def test_an_untouched_difference_is_valid(difference: SealedDifference, certificate: Path) -> None:
    """Its own checks all pass, and what was not made is said."""
    result = verify_difference(difference.folder, trusted=certificate, now=MOMENT)
    assert result.verdict == "valid"
    open_ones = {check.name for check in result.checks if check.status is CheckStatus.NOT_CHECKED}
    assert open_ones == {CheckName.TIMESTAMP, CheckName.PRINTED_TEXT, CheckName.RECOMPUTED}
    assert difference.result.counts["changed"] >= 1


def test_the_statement_names_both_parents(difference: SealedDifference, certificate: Path) -> None:
    """By the digests of their own statements."""
    statement = verify_difference(difference.folder, trusted=None).statement
    assert statement is not None
    for role, folder in (("base", difference.parents.base), ("new", difference.parents.new)):
        parent = verify_bundle(folder, trusted=certificate).statement
        named = statement.predicate[role]
        assert parent is not None
        assert isinstance(named, dict)
        assert named["statement"] == parent.digest


def test_every_file_is_covered(copy: Path, certificate: Path) -> None:
    """A changed byte in any file, a removed and an added one: each is named."""
    for path in sorted(copy.iterdir()):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        result = verify_difference(copy, trusted=certificate)
        assert not result.ok, path.name
        assert any(path.name in files for files in failures(result).values()), path.name
        path.unlink()
        result = verify_difference(copy, trusted=certificate)
        assert any(path.name in files for files in failures(result).values()), path.name
        path.write_bytes(content)
    (copy / "more.txt").write_text("more")
    assert failures(verify_difference(copy, trusted=certificate)) == {CheckName.FILES_INTACT: ("more.txt",)}


def test_a_bundle_and_a_difference_do_not_stand_for_each_other(
    difference: SealedDifference, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """T: a statement of one kind is not read as the other, whatever files lie there."""
    bundle = tmp_path / "bundle"
    shutil.copytree(difference.parents.base, bundle)
    shutil.copyfile(copy / "diff.json", bundle / "diff.json")
    assert run(["verify", str(bundle)]) == 3
    assert "attestation readable" in capsys.readouterr().out
    (copy / "diff.json").unlink()
    assert run(["verify", str(copy)]) == 3
    shutil.rmtree(bundle)


def test_another_parent_in_the_statement_is_caught(difference: SealedDifference, copy: Path, signer: Signer) -> None:
    """T: a record of one pair cannot be sealed as that of another."""
    record = DifferenceRecord.read(difference.folder)
    swapped = replace(record.result, base=record.result.new, new=record.result.base)
    with pytest.raises(EvidenceError, match="disagree about: base, new"):
        resealed(copy, record, signer, says=swapped)


def test_a_report_that_is_edited_and_sealed_again_is_caught(
    difference: SealedDifference, copy: Path, signer: Signer, certificate: Path
) -> None:
    """T: the same key, a verdict edited everywhere: the bundles give another one."""
    record = DifferenceRecord.read(difference.folder)
    concepts = tuple(replace(part, verdict=Verdict.EQUIVALENT) for part in record.result.concepts)
    resealed(copy, rewritten(record, replace(record.result, concepts=concepts)), signer)
    result = verify_difference(copy, trusted=certificate, now=MOMENT)
    assert result.verdict == "valid"
    parents = [difference.parents.new, difference.parents.base]
    again = recheck_difference(copy, result, parents=parents, now=MOMENT, progress=Silent())
    assert again[CheckName.PRINTED_TEXT].status is CheckStatus.PASS
    assert again[CheckName.RECOMPUTED].status is CheckStatus.FAIL
    assert "concepts" in again[CheckName.RECOMPUTED].detail


def test_other_margins_are_caught(difference: SealedDifference, copy: Path, signer: Signer) -> None:
    """T: a margin widened after the fact, with the verdicts that it gives, is not that of the method."""
    record = DifferenceRecord.read(difference.folder)
    margins = replace(record.result.margins, scenario_sd=3.0)
    resealed(copy, rewritten(record, replace(record.result, margins=margins)), signer)
    parents = [difference.parents.base, difference.parents.new]
    result = verify_difference(copy, trusted=None, now=MOMENT)
    again = recheck_difference(copy, result, parents=parents, now=MOMENT, progress=Silent())
    assert again[CheckName.RECOMPUTED].status is CheckStatus.FAIL
    assert "margins" in again[CheckName.RECOMPUTED].detail


def test_words_edited_in_one_report_are_caught(difference: SealedDifference, copy: Path, signer: Signer) -> None:
    """T: the page says another thing than its record, and is sealed again by the same key."""
    record = DifferenceRecord.read(difference.folder)
    first, *rest = record.result.concepts
    other = rewritten(record, replace(record.result, concepts=(replace(first, reason="nothing moved"), *rest)))
    resealed(copy, record, signer)
    for name in ("attestation.sigstore.json", "certificate.pem"):
        (copy / name).unlink()
    page = other.html.replace(_packed(other.html), _packed(record.html))
    (copy / "report.html").write_bytes(page)
    seal_bundle(
        copy, signer, predicate=difference_predicate(record.result, record.run.difference_digest),
        signed_at=MOMENT, tool_version="0.1.0", kind=StatementKind.DIFFERENCE,
    )  # fmt: skip
    result = verify_difference(copy, trusted=None, now=MOMENT)
    assert result.ok
    again = recheck_difference(copy, result, parents=(), now=MOMENT, progress=Silent())
    assert again[CheckName.PRINTED_TEXT].status is CheckStatus.FAIL
    assert again[CheckName.PRINTED_TEXT].files == ("report.html",)


def _packed(page: bytes) -> bytes:
    start = page.index(b'id="affidavit-findings"')
    return page[start : page.index(b"</script>", start)]


def test_recompute_asks_for_every_parent(
    difference: SealedDifference, certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4 names the statement whose bundle is missing; with both, in any order, every row follows."""
    asked = ["verify", str(difference.folder), "--trust", str(certificate), "--recompute"]
    assert run([*asked, "--parent", str(difference.parents.base)]) == 4
    assert difference.result.new.statement in capsys.readouterr().out
    both = [f"--parent={folder}" for folder in (difference.parents.new, difference.parents.base)]
    assert run([*asked, *both]) == 0
    assert f"{len(difference.result.rows):,} rows of diff.json follow from 2 bundles" in capsys.readouterr().out


def test_parents_are_for_differences_only(difference: SealedDifference) -> None:
    """Wrong use is told."""
    base = str(difference.parents.base)
    assert run(["verify", base, "--recompute", "--parent", base]) == 2
    assert run(["verify", str(difference.folder), "--parent", base]) == 2


def test_its_report_alone_can_be_checked(
    difference: SealedDifference, certificate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The seal of the PDF, its owner, and the record that it carries."""
    alone = tmp_path / "sent.pdf"
    shutil.copyfile(difference.folder / "report.pdf", alone)
    assert run(["verify", str(alone), "--trust", str(certificate)]) == 0
    told = capsys.readouterr().out
    assert "report alone, valid" in told
    assert "the attached diff.json is the one that the attached manifest.json lists" in told


@pytest.mark.parametrize(
    ("asks", "code"),
    [
        ("changed_at_most = 0", 1),
        ("changed_at_most = 3", 0),
        (f'equivalent = ["{CONCEPTS[1]}"]', 1),
        ("inconclusive_at_most = 1.0", 0),
        ('concepts = ["unknown"], changed_at_most = 0', 1),
    ],
)
def test_a_policy_judges_a_difference(
    asks: str, code: int, difference: SealedDifference, certificate: Path, tmp_path: Path
) -> None:
    """Alone, and beside the new bundle, whose rules about changes it answers."""
    policy = tmp_path / "policy.toml"
    head = 'schema = "affidavit/policy/1"\ntitle = "Test"\nbaseline = "required"\n'
    policy.write_text(f'{head}[[rule]]\nid = "r"\nwhy = "because"\ndifference = {{ {asks} }}\n')
    trust = ["--policy", str(policy), "--trust", str(certificate)]
    assert run(["gate", str(difference.folder), *trust]) == code
    assert run(["gate", str(difference.parents.new), "--difference", str(difference.folder), *trust]) == code


def test_a_difference_to_another_bundle_answers_nothing(
    difference: SealedDifference, copy: Path, certificate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """T: the base passed off as the new bundle; and a tampered difference is no evidence."""
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'schema = "affidavit/policy/1"\ntitle = "Test"\n'
        '[[rule]]\nid = "r"\nwhy = "because"\ndifference = { changed_at_most = 9 }\n'
    )
    trust = ["--policy", str(policy), "--trust", str(certificate)]
    assert run(["gate", str(difference.parents.base), "--difference", str(difference.folder), *trust]) == 2
    assert "one to statement" in capsys.readouterr().err
    (copy / "diff.json").write_bytes((copy / "diff.json").read_bytes() + b" ")
    assert run(["gate", str(difference.parents.new), "--difference", str(copy), *trust]) == 3
    assert run(["gate", str(copy), *trust]) == 3
    assert run(["gate", str(difference.parents.new), "--difference", str(difference.parents.base), *trust]) == 2


def test_a_person_can_approve_a_difference(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Her statement names the difference's own, and verify lists it; after a change it is refused."""
    assert run(["keys", "new", "--out", str(tmp_path / "key"), "--name", "A. Reviewer"]) == 0
    key = str(tmp_path / "key" / "key.pem")
    asked = ["approve", str(copy), "--name", "A. Reviewer", "--meaning", "review", "--key", key]
    assert run(asked) == 0
    assert run(["verify", str(copy)]) == 0
    assert "A. Reviewer" in capsys.readouterr().out
    (copy / "diff.json").write_bytes((copy / "diff.json").read_bytes() + b" ")
    assert run(asked) == 3
    shutil.rmtree(copy.with_name("copy.approvals"))


def test_a_changed_record_is_told_by_its_schema(copy: Path) -> None:
    """A record of another version is refused by name, not read."""
    record = json.loads((copy / "diff.json").read_bytes())
    (copy / "diff.json").write_bytes(canonical_json({**record, "schema": "affidavit/difference/9"}))
    with pytest.raises(EvidenceError, match="schema"):
        read_difference((copy / "diff.json").read_bytes())
