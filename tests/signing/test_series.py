"""A series of audits: whole, or the missing, forked or moved link is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from audit.cli.root import run
from audit.signing.attested import VerifyResult
from audit.signing.series import Link, order_links
from audit.signing.statement import SignerBlock, Statement
from audit.signing.verify import verify_bundle
from tests.signing.bundle_making import SIGNED_AT, Keyed, claims, reseal, write_bundle

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, plain_pdf: bytes, findings_json: bytes, keyed: Keyed) -> Make:
    """Return what writes one audit of a series, at its place or at one that it only claims."""

    def write(name: str, before: Path | None = None, *, at: datetime = SIGNED_AT, title: str = "x") -> Path:
        folder = tmp_path / "series" / name
        previous = None if before is None else statement(before)
        write_bundle(folder, plain_pdf, findings_json, keyed.signer, at=at, previous=previous)
        (folder / "certificate.pem").write_bytes(keyed.signer.certificate.pem)
        number = 1 if previous is None else previous.sequence + 1
        digest = None if previous is None else previous.digest
        predicate = {**claims(folder), "title": title}
        reseal(folder, keyed, predicate=predicate, sequence=number, previous=digest, signed_at=at)
        return folder

    return write


def statement(folder: Path) -> Statement:
    """Return the signed statement of a bundle."""
    found = verify_bundle(folder, trusted=None).statement
    assert found is not None
    return found


def links(*folders: Path, tail: bool = False) -> dict[str, Link]:
    """Return the links in their order, by the names of their folders."""
    results: dict[str, VerifyResult] = {str(folder): verify_bundle(folder, trusted=None) for folder in folders}
    return {Path(link.name).name: link for link in order_links(results, tail=tail)}


def test_a_whole_series_is_shown_in_order(make: Make) -> None:
    """However the folders are given, the order is that of their places, and nothing is wrong."""
    first = make("c")
    second = make("a", first)
    third = make("b", second)
    found = links(third, first, second)
    assert list(found) == ["c", "a", "b"]
    assert all(link.ok for link in found.values())


def test_a_missing_link_is_named(make: Make) -> None:
    """In the middle always; at the beginning unless only the tail is asked for."""
    first = make("one")
    second = make("two", first)
    third = make("three", second)
    assert links(first, third)["three"].problems == (
        f"missing: number 2, {statement(second).digest}, is not among the audits given",
    )
    assert "missing: number 1" in links(second, third)["two"].problems[0]
    assert all(link.ok for link in links(second, third, tail=True).values())
    assert not links(first, third, tail=True)["three"].ok


def test_a_fork_is_named_on_both_branches(make: Make) -> None:
    """Two audits that both say to follow the first, and two first audits."""
    first = make("one")
    left, right = make("left", first), make("right", first, title="other")
    found = links(first, left, right)
    assert found["one"].ok
    for one, other in (("left", right), ("right", left)):
        assert [p for p in found[one].problems if p.startswith("forked") and str(other) in p]
    rival = make("rival", title="other")
    assert links(first, rival)["one"].problems[0].startswith("forked")


def test_a_moved_link_is_named(make: Make, keyed: Keyed) -> None:
    """A number that is not one more than the predecessor's, and a moment before it."""
    first = make("one")
    skipped = make("skipped", first)
    found = statement(skipped)
    reseal(skipped, keyed, predicate=claims(skipped), sequence=7, previous=found.previous)
    assert any(p.startswith("reordered: number 7 names") for p in links(first, skipped)["skipped"].problems)
    early = make("early", first, at=SIGNED_AT - timedelta(days=2))
    assert any(p.startswith("reordered: it was sealed at") for p in links(first, early)["early"].problems)


def test_a_rewritten_predecessor_breaks_the_series(make: Make, keyed: Keyed) -> None:
    """The same key seals the first audit again with another claim: the second no longer follows it."""
    first = make("one")
    second = make("two", first)
    reseal(first, keyed, predicate={**claims(first), "title": "rewritten"})
    assert verify_bundle(first, trusted=None).ok
    assert links(first, second)["two"].problems[0].startswith("missing: number 1")


def test_rivals_for_one_place_are_named(make: Make, keyed: Keyed) -> None:
    """Two audits of one number whose predecessors are both absent: at most one can be the tail's first."""
    left, right = make("left"), make("right", title="other")
    for folder, digit in ((left, "1"), (right, "2")):
        reseal(folder, keyed, predicate=claims(folder), sequence=5, previous=f"sha256:{digit * 64}")
    found = links(left, right, tail=True)
    assert all(any(p.startswith("forked") for p in found[name].problems) for name in ("left", "right"))


def test_a_stranger_s_link_is_named(make: Make, other_keyed: Keyed) -> None:
    """Another key continues the series: named, unless the verifier trusts both."""
    first = make("one")
    second = make("two", first)
    found = statement(second)
    (second / "certificate.pem").write_bytes(other_keyed.signer.certificate.pem)
    reseal(
        second,
        other_keyed,
        predicate=claims(second),
        sequence=2,
        previous=found.previous,
        signer=SignerBlock.of(other_keyed.signer.certificate),
    )
    (problem,) = links(first, second)["two"].problems
    assert problem.startswith(f"sealed by {other_keyed.files.certificate.fingerprint}")


def test_one_audit_given_twice_is_named(make: Make, tmp_path: Path) -> None:
    """A copy is not another audit."""
    first = make("one")
    shutil.copytree(first, tmp_path / "zcopy")
    found = links(first, tmp_path / "zcopy")
    assert found["one"].ok
    assert found["zcopy"].problems == (f"the same audit as {first}, given twice",)


def test_the_command_takes_a_folder_of_bundles(
    make: Make, keyed: Keyed, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit 0 and a line each; 3 once a byte of one changes, with the link and the file named; 2 without bundles."""
    first = make("one")
    second = make("two", first)
    trust = ["--trust", str(keyed.files.certificate_path)]
    assert run(["chain", str(first.parent), *trust]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "2 audits, unbroken"
    assert [line[0] for line in out.splitlines()[:2]] == ["1", "2"]
    assert run(["chain", str(second), "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert not record["ok"]
    assert record["links"][0]["problems"][0].startswith("missing: number 1")
    (second / "findings.json").write_bytes(b"{}")
    assert run(["chain", str(first.parent)]) == 3
    assert "FAIL  files intact: changed: findings.json" in capsys.readouterr().out
    shutil.copytree(first, first.parent / "unsealed", ignore=shutil.ignore_patterns("attestation.*"))
    assert run(["chain", str(first.parent)]) == 3
    assert "unsealed" in capsys.readouterr().out
    shutil.rmtree(first.parent / "unsealed")
    (second / "attestation.sigstore.json").write_bytes(b"{}")
    assert run(["chain", str(first.parent)]) == 3
    assert "its statement cannot be read" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert run(["chain", str(tmp_path / "empty")]) == 2
