"""A person's approval beside a bundle: name, time, meaning and digest, each of which the verifier checks and lists."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.cli.root import run
from audit.errors import KeyProblem, UsageError
from audit.signing.approvals import Approval, approvals_folder, read_approvals, write_approval
from audit.signing.checks import CheckStatus
from audit.signing.detached import write_detached
from audit.signing.keys import new_sealing_key
from audit.signing.statement import SignerBlock, Statement, StatementKind, build_statement
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import SIGNED_AT, Keyed, claims, make_keyed, reseal

LATER = SIGNED_AT + timedelta(days=1)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Keyed:
    """A person's own key."""
    return make_keyed(tmp_path_factory.mktemp("person") / "key", "A. Reviewer")


@pytest.fixture
def audit(bundle: Path) -> Statement:
    """The signed statement of the bundle."""
    found = verify_bundle(bundle, trusted=None).statement
    assert found is not None
    return found


def approve(folder: Path, audit: Statement, keyed: Keyed, **changes: object) -> Path:
    """Write an approval with what `changes` says instead."""
    said = {"name": "A. Reviewer", "meaning": "approval", "signed_at": LATER, "tool_version": "0.1.0"} | changes
    return write_approval(folder, audit, keyed.signer, **said)


def only(found: tuple[Approval, ...]) -> Approval:
    """Return the one approval."""
    (one,) = found
    return one


def test_an_approval_holds_for_the_audit_that_it_names(bundle: Path, audit: Statement, person: Keyed) -> None:
    """Trusted with the person's certificate; without one it is listed, and no pass."""
    folder = approvals_folder(bundle)
    approve(folder, audit, person)
    one = only(read_approvals(folder, audit, trusted=[person.files.certificate_path], now=LATER))
    assert one.status is CheckStatus.PASS
    assert (one.name, one.meaning, one.signed_at) == ("A. Reviewer", "approval", LATER)
    assert one.fingerprint == person.files.certificate.fingerprint
    unpinned = only(read_approvals(folder, audit, now=LATER))
    assert unpinned.status is CheckStatus.NOT_CHECKED
    assert "give --trust-approver" in unpinned.detail


def test_an_approval_is_of_one_audit(
    tmp_path: Path, audit: Statement, person: Keyed, keyed: Keyed, bundle: Path
) -> None:
    """Beside another audit it fails, and says so."""
    approve(tmp_path / "approvals", audit, person)
    reseal(bundle, keyed, predicate={**claims(bundle), "title": "another"})
    other = verify_bundle(bundle, trusted=None).statement
    assert other is not None
    one = only(read_approvals(tmp_path / "approvals", other, trusted=[person.files.certificate_path]))
    assert one.status is CheckStatus.FAIL
    assert "of another audit" in one.detail


def test_any_changed_byte_and_any_foreign_file_fails(bundle: Path, audit: Statement, person: Keyed) -> None:
    """Signature, name, meaning, time: nothing in the file is free. Links, folders and rubbish are named."""
    folder = approvals_folder(bundle)
    path = approve(folder, audit, person)
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        one = only(read_approvals(folder, audit, trusted=[person.files.certificate_path]))
        assert one.status is CheckStatus.FAIL
    path.write_bytes(data)
    (folder / "link.sigstore.json").symlink_to(path)
    (folder / "folder.sigstore.json").mkdir()
    (folder / "huge.sigstore.json").touch()
    os.truncate(folder / "huge.sigstore.json", 1 << 40)
    (folder / "note.txt").write_text("approved!\n")
    found = {one.file: one.status for one in read_approvals(folder, audit)}
    # Notes are no approvals; what has the name of one must be one.
    foreign = ("folder.sigstore.json", "huge.sigstore.json", "link.sigstore.json")
    assert found == {path.name: CheckStatus.NOT_CHECKED} | dict.fromkeys(foreign, CheckStatus.FAIL)


def test_a_look_alike_is_not_the_person(tmp_path: Path, audit: Statement, person: Keyed) -> None:
    """T: the same names, another key."""
    impostor = make_keyed(tmp_path / "impostor", "A. Reviewer")
    approve(tmp_path / "approvals", audit, impostor)
    one = only(read_approvals(tmp_path / "approvals", audit, trusted=[person.files.certificate_path]))
    assert one.status is CheckStatus.FAIL
    assert impostor.files.certificate.fingerprint in one.detail


def test_bad_approvals_are_not_written(tmp_path: Path, audit: Statement, person: Keyed, keyed: Keyed) -> None:
    """Names that do not print on one line, the seal's own key, a certificate that is not valid then."""
    for changes in (
        {"name": ""},
        {"name": " "},
        {"meaning": "a\nPASS"},
        {"name": "x" * 121},
        {"name": "\u202egnp.exe"},
    ):
        with pytest.raises(UsageError):
            approve(tmp_path / "no", audit, person, **changes)
    with pytest.raises(UsageError, match="own key"):
        approve(tmp_path / "no", audit, keyed)
    with pytest.raises(KeyProblem):
        approve(tmp_path / "no", audit, person, signed_at=SIGNED_AT + timedelta(days=9999))
    assert not (tmp_path / "no").exists()


def test_the_commands_approve_and_list(
    bundle: Path, keyed: Keyed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`approve` writes beside the bundle, which stays as it is; `verify` has a line for it; a broken one is exit 3."""
    new_sealing_key(tmp_path / "me", "A. Reviewer", organisation=None, days=9, not_before=datetime.now(UTC))
    key, own = str(tmp_path / "me" / "key.pem"), str(tmp_path / "me" / "certificate.pem")
    seal = ["--trust", str(keyed.files.certificate_path)]
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    assert run(["approve", str(bundle), "--name", "A. Reviewer", "--meaning", "review", "--key", key, *seal]) == 0
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    capsys.readouterr()
    assert run(["verify", str(bundle), *seal, "--trust-approver", own]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("PASS  approval") and '"A. Reviewer": "review"' in line]
    assert run(["verify", str(bundle), *seal, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["approvals"][0]["name"] == "A. Reviewer"
    (path,) = approvals_folder(bundle).iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert run(["verify", str(bundle), *seal]) == 3
    assert "an approval does not hold" in capsys.readouterr().out
    path.unlink()
    (bundle / "findings.json").write_bytes(b"{}")
    assert run(["approve", str(bundle), "--name", "A", "--meaning", "review", "--key", key]) == 3
    assert not list(approvals_folder(bundle).iterdir())


def lie(folder: Path, approved: Statement, keyed: Keyed, /, *, at: datetime = LATER, **changes: object) -> None:
    """Write an approval that `write_approval` would refuse."""
    said = {"name": "A. Reviewer", "meaning": "approval"}
    told = {"sequence": approved.sequence, "findings": approved.predicate["findings"]}
    statement = build_statement(
        {"statement": approved.digest},
        said | {"audit": told} | changes,
        signer=SignerBlock.of(keyed.signer.certificate),
        signed_at=at,
        tool_version="0.1.0",
        kind=StatementKind.APPROVAL,
    )
    write_detached(folder / f"{len(changes)}.sigstore.json", statement, keyed.signer)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": " "},
        {"meaning": "x" * 121},
        {"name": "a\nPASS  approval"},
        {"audit": {"sequence": 99, "findings": "sha256:" + "0" * 64}},
        {"at": SIGNED_AT - timedelta(seconds=1)},
        {"extra": 1},
    ],
)
def test_what_is_not_written_is_not_believed(
    changes: dict[str, object], tmp_path: Path, audit: Statement, person: Keyed
) -> None:
    """Whoever owns a person's key can sign anything: reading asks what writing asks."""
    lie(tmp_path, audit, person, **changes)
    assert only(read_approvals(tmp_path, audit, trusted=[person.files.certificate_path])).status is CheckStatus.FAIL


def test_the_seal_approves_nothing(tmp_path: Path, audit: Statement, keyed: Keyed) -> None:
    """Not even where its certificate is pinned as a person's."""
    lie(tmp_path, audit, keyed)
    one = only(read_approvals(tmp_path, audit, trusted=[keyed.files.certificate_path]))
    assert one.status is CheckStatus.FAIL
    assert "no person" in one.detail


def test_a_name_that_imitates_the_answer_stays_in_quotes(tmp_path: Path, audit: Statement, person: Keyed) -> None:
    """The words of the line and the words of the signer cannot be confused."""
    approve(tmp_path, audit, person, name='Ann: "approval" (certificate of Ann, trusted)')
    one = only(read_approvals(tmp_path, audit))
    assert one.detail.startswith('"Ann: \\"approval\\" (certificate of Ann, trusted)": "approval", ')


def test_a_copied_approval_counts_once(tmp_path: Path, audit: Statement, person: Keyed) -> None:
    """T: one person is not two."""
    path = approve(tmp_path, audit, person)
    shutil.copy(path, path.with_name(f"z{path.name}"))
    found = read_approvals(tmp_path, audit, trusted=[person.files.certificate_path])
    assert [one.status for one in found] == [CheckStatus.PASS, CheckStatus.FAIL]
    assert f"the same approval as {path.name}" in found[1].detail


def test_what_is_asked_about_approvals_is_answered(
    bundle: Path, person: Keyed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No folder, no approval by the person named, a report alone: never a silent pass."""
    own = str(person.files.certificate_path)
    assert run(["verify", str(bundle), "--approvals", str(tmp_path / "none")]) == 2
    assert run(["verify", str(bundle / "report.pdf"), "--trust-approver", own]) == 2
    capsys.readouterr()
    assert run(["verify", str(bundle), "--trust-approver", own]) == 3
    assert f"none that holds by {own}" in capsys.readouterr().out
    approvals_folder(bundle).symlink_to(tmp_path)
    assert run(["verify", str(bundle)]) == 3
    assert run(["approve", str(bundle), "--name", "A", "--meaning", "b", "--key", "k", "--out", str(bundle / "x")]) == 2


def test_a_bundle_whose_name_leaves_no_room_for_approvals_verifies(bundle: Path, tmp_path: Path) -> None:
    """The longest name that a folder may have."""
    long = bundle.rename(tmp_path / ("n" * 255))
    assert run(["verify", str(long)]) == 0
