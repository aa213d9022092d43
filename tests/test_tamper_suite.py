"""The attacks on a real bundle: whatever is changed is found and named, and nothing untouched is suspected."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from audit.digests import canonical_json, digest_bytes
from audit.signing.checks import CheckStatus
from audit.signing.keys import new_sealing_key
from audit.signing.verify import verify_bundle
from tests.conftest import MOMENT, SealedAudit
from tests.signing.pdf_attacks import UPDATES, update

CHANGES = 1_000
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One byte of one file, and what is done to it."""

    name: str
    position: int
    bit: int


def files_of(folder: Path) -> list[str]:
    """Return the names of all files of a bundle."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def chosen_changes(folder: Path, *, count: int) -> list[Change]:
    """Return changes at seeded places, as many in each file; the first and the last byte of each among them."""
    rng = random.Random(20260101)  # noqa: S311 - reproducible, not secret
    names = files_of(folder)
    changes = []
    for number in range(count):
        name = names[number % len(names)]
        size = (folder / name).stat().st_size
        turn = number // len(names)
        position = (0, size - 1)[turn] if turn < 2 else rng.randrange(size)
        changes.append(Change(name, position, rng.randrange(8)))
    return changes


def missed_changes(folder: Path, certificate: Path, changes: list[Change]) -> list[tuple[Change, str]]:
    """Return the changes that the verifier does not find, or does not pin to their file."""
    missed = []
    for change in changes:
        path = folder / change.name
        original = path.read_bytes()
        changed = bytearray(original)
        changed[change.position] ^= 1 << change.bit
        path.write_bytes(changed)
        result = verify_bundle(folder, trusted=certificate)
        named = [check for check in result.checks if check.status is CheckStatus.FAIL and change.name in check.files]
        if result.ok or not named:
            missed.append((change, result.conclusion))
        path.write_bytes(original)
    return missed


def test_a_thousand_changed_bytes_are_all_found(audit: SealedAudit, tmp_path: Path) -> None:
    """Single bits all over a real bundle, as many in each file: none is missed, each file is named."""
    changes = chosen_changes(audit.folder, count=CHANGES)
    assert {change.name for change in changes} == set(files_of(audit.folder))
    copies = [tmp_path / str(number) for number in range(WORKERS)]
    for copy in copies:
        shutil.copytree(audit.folder, copy)
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(missed_changes, copy, audit.certificate, changes[number::WORKERS])
            for number, copy in enumerate(copies)
        ]
        assert [missed for job in jobs for missed in job.result()] == []
    assert all(verify_bundle(copy, trusted=audit.certificate).ok for copy in copies)


@pytest.fixture(scope="module")
def attacked(audit: SealedAudit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield one copy for the attacks below, each of which puts everything back."""
    folder = tmp_path_factory.mktemp("attacked") / "bundle"
    shutil.copytree(audit.folder, folder)
    yield folder
    shutil.rmtree(folder)


Attack = Callable[[Path], None]


def _shards(folder: Path) -> list[Path]:
    return sorted((folder / "activations").iterdir())


def _edit_json(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_bytes())
    edit(value)
    path.write_bytes(canonical_json(value))


def remove_a_file(folder: Path) -> None:
    """A shard is gone."""
    _shards(folder)[0].unlink()


def add_a_file(folder: Path) -> None:
    """One more file lies in the bundle."""
    (folder / "exports").mkdir(exist_ok=True)
    (folder / "exports" / "approval.txt").write_text("approved\n")


def rename_a_file(folder: Path) -> None:
    """The same bytes under another name."""
    shard = _shards(folder)[0]
    shard.rename(shard.with_name("0" * 16 + ".rows.parquet"))


def swap_two_files(folder: Path) -> None:
    """Two shards exchange their names."""
    one, other, *_ = _shards(folder)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def truncate_a_file(folder: Path) -> None:
    """The database loses its last page."""
    path = folder / "evidence.duckdb"
    os.truncate(path, path.stat().st_size - 4096)


def append_junk_to_the_pdf(folder: Path) -> None:
    """Bytes after the end of the document."""
    with (folder / "report.pdf").open("ab") as stream:
        stream.write(b"\n%%EOF\n")


def save_the_pdf_again(folder: Path) -> None:
    """Opened and saved by another program: the seal is gone or broken."""
    path = folder / "report.pdf"
    changed = BytesIO()
    with pikepdf.open(path) as pdf:
        pdf.save(changed)
    path.write_bytes(changed.getvalue())


def strip_the_seal(folder: Path) -> None:
    """The form with the signature is taken out."""
    path = folder / "report.pdf"
    changed = BytesIO()
    with pikepdf.open(path) as pdf:
        del pdf.Root.AcroForm
        for page in pdf.pages:
            page["/Annots"] = pikepdf.Array(a for a in page.get("/Annots", ()) if a.get("/Subtype") != "/Widget")
        pdf.save(changed)
    path.write_bytes(changed.getvalue())


def replace_an_attachment(folder: Path) -> None:
    """The findings inside the PDF are others."""
    path = folder / "report.pdf"
    changed = BytesIO()
    with pikepdf.open(path) as pdf:
        pdf.attachments["findings.json"] = pikepdf.AttachedFileSpec(pdf, b"{}", filename="findings.json")
        pdf.save(changed)
    path.write_bytes(changed.getvalue())


def edit_a_finding_and_its_digests(folder: Path) -> None:
    """T: an artefact is edited and every digest that stands beside it is computed again."""

    def lower(value: dict[str, Any]) -> None:
        value["format"] = "plain"

    _edit_json(folder / "findings.json", lower)
    digest = digest_bytes((folder / "findings.json").read_bytes())

    def follow(value: dict[str, Any]) -> None:
        value["files"]["findings.json"] = digest
        value["run"]["findings_digest"] = digest

    _edit_json(folder / "manifest.json", follow)


def edit_a_number_in_the_page_only(folder: Path) -> None:
    """A printed number in report.html."""
    path = folder / "report.html"
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))


def put_another_certificate(folder: Path) -> None:
    """T: certificate.pem names somebody else."""
    made = new_sealing_key(folder.parent / "impostor", "Test seal", organisation="Tests", days=30, not_before=MOMENT)
    (folder / "certificate.pem").write_bytes(made.certificate_path.read_bytes())
    shutil.rmtree(folder.parent / "impostor")


def _behind_the_seal(change: Callable[[Any], None]) -> Attack:
    """Return the attack that appends an incremental update to the sealed report."""

    def attack(folder: Path) -> None:
        path = folder / "report.pdf"
        path.write_bytes(update(path.read_bytes(), change))

    attack.__name__ = change.__name__
    return attack


ATTACKS: dict[Attack, str] = {
    remove_a_file: "activations/",
    add_a_file: "exports/approval.txt",
    rename_a_file: "activations/",
    swap_two_files: "activations/",
    truncate_a_file: "evidence.duckdb",
    append_junk_to_the_pdf: "report.pdf",
    save_the_pdf_again: "report.pdf",
    strip_the_seal: "report.pdf",
    **{_behind_the_seal(change): "report.pdf" for change in UPDATES},
    replace_an_attachment: "report.pdf",
    edit_a_finding_and_its_digests: "findings.json",
    edit_a_number_in_the_page_only: "report.html",
    put_another_certificate: "certificate.pem",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_attack_is_found_and_its_file_named(attack: Attack, attacked: Path, audit: SealedAudit) -> None:
    """Each attack on the files of a sealed bundle fails with the name of what it touched."""
    before = {name: (attacked / name).read_bytes() for name in files_of(attacked)}
    attack(attacked)
    after = {name: (attacked / name).read_bytes() for name in files_of(attacked)}
    assert after != before
    result = verify_bundle(attacked, trusted=audit.certificate)
    failed = [check for check in result.checks if check.status is CheckStatus.FAIL]
    assert not result.ok
    assert any(name.startswith(ATTACKS[attack]) for check in failed for name in check.files), failed
    for name in after.keys() - before.keys():
        (attacked / name).unlink()
    shutil.rmtree(attacked / "exports", ignore_errors="exports" not in {Path(n).parts[0] for n in before})
    for name, data in before.items():
        (attacked / name).parent.mkdir(exist_ok=True)
        (attacked / name).write_bytes(data)
    assert verify_bundle(attacked, trusted=audit.certificate).ok
