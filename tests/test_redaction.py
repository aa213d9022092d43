"""A redacted copy verifies against the original seal, holds none of the withheld texts, and any change of it shows."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pikepdf
import pytest

from audit.cli.root import run
from audit.digests import canonical_json, digest_bytes
from audit.errors import EvidenceError, OutputError, UsageError
from audit.packing import unpack
from audit.records import WITHHELD_PIECE
from audit.redaction import Redaction, _chosen, redact_bundle, verify_redacted
from audit.signing.attested import VerifyResult
from audit.signing.checks import CheckName, CheckStatus
from audit.signing.html_findings import findings_in_html
from audit.signing.keys import Signer
from audit.signing.redacted import COPY_CHECKS
from audit.signing.verify import verify_bundle
from tests.conftest import SealedAudit
from tests.redaction_making import findings, first_prompt, prompts, words_of, write_bundle
from tests.reports.fixtures.mixes import MIX, NULL_MIX, UNMEASURED_MIX

FINANCE = {"insider_trading", MIX, NULL_MIX}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """Return a small sealed bundle."""
    folder = tmp_path_factory.mktemp("sealed") / "bundle"
    folder.mkdir()
    write_bundle(folder, signer)
    assert verify_bundle(folder, trusted=None).ok
    return folder


@pytest.fixture(scope="module")
def whole(sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Redaction:
    """Return its copy without any text."""
    return redact_bundle(sealed, tmp_path_factory.mktemp("whole") / "copy", suites=(), concepts=())


@pytest.fixture(scope="module")
def part(sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Redaction:
    """Return its copy without the texts of one suite."""
    return redact_bundle(sealed, tmp_path_factory.mktemp("part") / "copy", suites=("finance",), concepts=())


@pytest.fixture
def copy(part: Redaction, tmp_path: Path) -> Path:
    """Return a copy of the copy that a test may attack."""
    return Path(shutil.copytree(part.folder, tmp_path / "copy"))


def verified(folder: Path, *, trusted: Path | None = None, render: bool = False) -> VerifyResult:
    """Return the outcome of all checks."""
    return verify_redacted(folder, trusted=trusted, now=None, render=render)


def failed(result: VerifyResult) -> dict[str, str]:
    """Return the failed checks with their details."""
    return {check.name.value: check.detail for check in result.checks if check.status is CheckStatus.FAIL}


def said(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every text that a program can get out of a copy: raw bytes, unpacked parts, rows."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"{path.name}, bytes", path.read_bytes().decode("utf-8", "replace")
    html = (folder / "report.html").read_bytes()
    yield "report.html, findings", findings_in_html(html, item="report.html").decode()
    with pikepdf.open(folder / "report.pdf") as pdf:
        for number, item in enumerate(pdf.objects):
            if isinstance(item, pikepdf.Stream):
                yield f"report.pdf, stream {number}", item.read_bytes().decode("utf-8", "replace")
            else:
                yield f"report.pdf, object {number}", str(item)
    with duckdb.connect(str(folder / "evidence.duckdb"), read_only=True) as connection:
        for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            rows = connection.table(table).fetchall()
            yield f"table {table}", json.dumps(rows, default=str, ensure_ascii=False)
    for path in (folder / "activations").iterdir():
        with duckdb.connect() as connection:
            yield path.name, str(connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall())


def test_the_original_verifies_as_ever(sealed: Path, part: Redaction, certificate: Path) -> None:
    """Redacting does not touch it, and its attestation is the copy's."""
    assert verify_bundle(sealed, trusted=certificate).verdict == "valid"
    name = "attestation.sigstore.json"
    assert (sealed / name).read_bytes() == (part.folder / name).read_bytes()


def test_a_copy_verifies_line_by_line(part: Redaction, certificate: Path) -> None:
    """Every check is made or says why not; the conclusion does not vouch for the reports."""
    result = verified(part.folder, trusted=certificate)
    assert [check.name for check in result.checks] == list(COPY_CHECKS)
    assert failed(result) == {}
    open_checks = {check.name.value for check in result.checks if check.status is CheckStatus.NOT_CHECKED}
    assert open_checks == {
        "timestamp",
        "PDF signature and coverage",
        "plan",
        "printed text",
        "exports agree",
        "recomputed figures",
    }
    assert result.conclusion == "redacted copy, valid, its reports not checked"
    assert verified(part.folder).conclusion.startswith("redacted copy, intact, signer not trusted, its reports not")


def test_rendering_again_gives_the_same_reports(copy: Path, certificate: Path) -> None:
    """With --recompute reports and exports are made again and are the same; a changed word in either fails."""
    assert verified(copy, trusted=certificate, render=True).conclusion == "redacted copy, valid"
    for name, word, other in (
        ("report.html", b"amber", b"green"),
        ("exports/summary.md", b"No sign found", b"Told apart"),
    ):
        page = copy / name
        page.write_bytes(page.read_bytes().replace(word, other, 1))
    assert failed(verified(copy)) == {}
    assert failed(verified(copy, render=True)) == {
        "printed text": "not what findings.json and manifest.json give: report.html",
        "exports agree": "not what findings.json and manifest.json give: exports/summary.md",
    }


def test_exports_of_a_copy_are_made_from_what_it_shows(sealed: Path, copy: Path, part: Redaction) -> None:
    """They name the copy's findings and the original's statement; a missing one is named."""
    names = sorted(path.name for path in (copy / "exports").iterdir())
    assert names == sorted(path.name for path in (sealed / "exports").iterdir())
    log = json.loads((copy / "exports" / "report.sarif").read_bytes())
    said = log["runs"][0]["properties"]
    assert said["findingsDigest"] == digest_bytes((copy / "findings.json").read_bytes())
    assert said["redactedCopyOf"] == part.withheld.statement
    original = json.loads((sealed / "exports" / "report.sarif").read_bytes())["runs"][0]["properties"]
    assert "redactedCopyOf" not in original
    assert said["findingsDigest"] != original["findingsDigest"]
    (copy / "exports" / "summary.md").unlink()
    assert "exports/summary.md" in failed(verified(copy))["files intact"]


def test_a_copy_of_a_bundle_without_exports_has_none(tmp_path: Path, signer: Signer) -> None:
    """An earlier version sealed it: the statement names no export, and a copy adds no file to it."""
    old = tmp_path / "old"
    old.mkdir()
    write_bundle(old, signer, edit=lambda _: {})
    made = redact_bundle(old, tmp_path / "copy", suites=(), concepts=())
    assert not (made.folder / "exports").exists()
    check = verified(made.folder, render=True)[CheckName.EXPORTS_AGREE]
    assert check.status is CheckStatus.NOT_CHECKED
    assert "no exports" in check.detail


def test_no_withheld_text_is_in_any_byte(whole: Redaction) -> None:
    """Not in the database file, nor in the streams of the PDF, nor in the packed findings of the page."""
    gone = [word for number in range(4) for _, own, _, _ in prompts() for word in words_of(own, number)]
    gone += ["labelxq", "xqprompt", "xqsaid", "xqnow", "Sharedword"]
    searched = 0
    for where, text in said(whole.folder):
        searched += 1
        assert [word for word in gone if word in text] == [], where
    assert searched > 40


def test_what_is_not_named_stays(part: Redaction) -> None:
    """One suite takes the mixes of its concepts and equal texts elsewhere; every other prompt is readable."""
    query = "SELECT prompt, concept, text FROM prompt ORDER BY prompt"
    with duckdb.connect(str(part.folder / "evidence.duckdb"), read_only=True) as connection:
        found = connection.execute(query).fetchall()
    shared = {number for number, _, text, _ in prompts() if text.startswith("Sharedword")}
    for number, own, text in found:
        original = prompts()[number][2]
        if own in FINANCE or number in shared:
            assert text.startswith("withheld:sha256:")
            assert text.endswith(f":{len(original)}")
        else:
            assert text == original
    assert part.withheld.parts == tuple(sorted({*FINANCE, "dosing_error"}))
    assert part.withheld.prompts == 13
    text = "".join(text for _, text in said(part.folder))
    assert "dosingerrorxq1alpha" in text
    assert "insidertradingxq1alpha" not in text
    assert "labelxq" not in text


def test_a_copy_shows_digest_and_length(part: Redaction) -> None:
    """Squares for tokens with their activations, a digest for a label; the cover and each page say what it is."""
    value = json.loads((part.folder / "findings.json").read_bytes())
    contexts = [context for card in value["cards"] for context in card["contexts"]]
    held = [context for context in contexts if context["concept"] == "insider_trading"]
    shown = [context for context in contexts if context["concept"] == "dosing_error"]
    assert held
    assert shown
    assert {token["text"] for context in held for token in context["tokens"]} == {WITHHELD_PIECE}
    assert all(token["text"] != WITHHELD_PIECE for context in shown for token in context["tokens"])
    assert [token["activation"] for token in held[0]["tokens"]] == [0.0, 0.5, 1.0]
    labels = [label["text"] for card in value["cards"] for label in card["labels"] if label["source"] == "tokens"]
    assert labels
    assert all(label.startswith("withheld:sha256:") for label in labels)
    held_texts = {one["concept"]: one["continuations"] for one in value["causal"]["suppressions"]}
    assert held_texts["dosing_error"][0]["changed"] == "dosing_errorxqnow0"
    assert held_texts["insider_trading"][0]["changed"] == WITHHELD_PIECE
    page = (part.folder / "report.html").read_text()
    assert "Redacted copy" in page
    assert "13 prompts" in page
    with pikepdf.open(part.folder / "report.pdf") as pdf:
        assert "/Sig" not in str([item for item in pdf.objects if isinstance(item, pikepdf.Dictionary)])


def test_salts_of_withheld_texts_are_gone(sealed: Path, part: Redaction) -> None:
    """Nor is the secret in any file, from which they could be made again."""
    record = json.loads((part.folder / "redaction.json").read_bytes())
    salts = {place: salt for place, _, _, salt in record["leaves"]}
    assert salts[f"prompt/{first_prompt('insider_trading')}"] is None
    assert salts[f"prompt/{first_prompt('dosing_error')}"] is not None
    assert salts["cards/0/labels/0"] is None
    secret = json.loads((sealed / "salts.json").read_bytes())["secret"]
    assert not (part.folder / "salts.json").exists()
    assert not any(secret in text for _, text in said(part.folder))


def test_whoever_has_text_and_salt_can_check_a_digest(sealed: Path, part: Redaction) -> None:
    """As docs/bundle.md says, with nothing but hashlib."""
    number = first_prompt("insider_trading")
    _, _, text, pieces = prompts()[number]
    secret = bytes.fromhex(json.loads((sealed / "salts.json").read_bytes())["secret"])
    salt = hmac.new(secret, f"prompt/{number}".encode(), "sha256").digest()[:16]
    value = json.dumps([f"prompt/{number}", {"pieces": pieces, "text": text}], separators=(",", ":"))
    record = json.loads((part.folder / "redaction.json").read_bytes())
    row = next(row for row in record["leaves"] if row[0] == f"prompt/{number}")
    assert row[1:3] == [len(text), "sha256:" + hashlib.sha256(salt + value.encode()).hexdigest()]


def sql(statement: str, *values: int) -> Callable[[Path], None]:
    """Return an attack on the database."""

    def attack(folder: Path) -> None:
        with duckdb.connect(str(folder / "evidence.duckdb")) as connection:
            connection.execute(statement, list(values))

    return attack


def edit(name: str, change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    """Return an attack on a JSON file that stays canonical."""

    def attack(folder: Path) -> None:
        value = json.loads((folder / name).read_bytes())
        change(value)
        (folder / name).write_bytes(canonical_json(value))

    return attack


def swap_rows(value: dict[str, object]) -> None:
    """Exchange the digests of two withheld prompts."""
    rows = value["leaves"]
    assert isinstance(rows, list)
    one, other = first_prompt("insider_trading"), first_prompt("insider_trading") + 1
    rows[one][1:3], rows[other][1:3] = rows[other][1:3], rows[one][1:3]


def swap_prompts(folder: Path) -> None:
    """Exchange what stands for two withheld prompts."""
    one, other = first_prompt("insider_trading"), first_prompt("insider_trading") + 1
    with duckdb.connect(str(folder / "evidence.duckdb")) as connection:
        texts = dict(connection.execute("SELECT prompt, text FROM prompt").fetchall())
        connection.execute("UPDATE prompt SET text = ? WHERE prompt = ?", [texts[other], one])
        connection.execute("UPDATE prompt SET text = ? WHERE prompt = ?", [texts[one], other])


def add(name: str) -> Callable[[Path], None]:
    """Return an attack that puts a file into the copy."""
    return lambda folder: (folder / name).write_bytes(b"{}") and None


EVIDENCE, FINDINGS, TEXTS = "evidence besides texts", "findings besides texts", "texts"
HELD, KEPT = first_prompt("insider_trading"), first_prompt("dosing_error")
ATTACKS: dict[str, tuple[Callable[[Path], None], dict[str, str]]] = {
    "number": (sql("UPDATE finding SET d_z = d_z + 0.001"), {EVIDENCE: "tables changed: finding"}),
    "row taken out": (
        sql("DELETE FROM prompt_feature WHERE prompt = (SELECT min(prompt) FROM prompt_feature)"),
        {EVIDENCE: "tables changed: prompt_feature"},
    ),
    "row added": (
        sql("INSERT INTO residual SELECT * FROM residual LIMIT 1"),
        {EVIDENCE: "tables changed: residual"},
    ),
    "number in a list": (
        sql("UPDATE residual SET mean = [mean[2], mean[1]] WHERE prompt = 3"),
        {EVIDENCE: "tables changed: residual"},
    ),
    "null for a number": (sql("UPDATE edge SET p_value = NULL"), {EVIDENCE: "tables changed: edge"}),
    "table added": (sql("CREATE TABLE extra AS SELECT 1 AS x"), {EVIDENCE: "tables changed: extra"}),
    "table taken out": (sql("DROP TABLE co_firing"), {EVIDENCE: "tables changed: co_firing"}),
    "view": (sql("CREATE VIEW best AS SELECT 1 AS x"), {EVIDENCE: "not in the original: view best"}),
    "macro": (sql("CREATE MACRO twice(x) AS 2 * x"), {EVIDENCE: "not in the original: macro twice"}),
    "comment": (sql("COMMENT ON TABLE finding IS 'all clear'"), {EVIDENCE: "comment on finding"}),
    "column renamed": (
        sql("ALTER TABLE edge RENAME COLUMN low TO lowest"),
        {EVIDENCE: "tables changed: edge"},
    ),
    "column type": (
        sql("ALTER TABLE co_firing ALTER COLUMN observed TYPE BIGINT"),
        {EVIDENCE: "tables changed: co_firing"},
    ),
    "template token": (sql("UPDATE token SET piece = 'x' WHERE NOT content"), {EVIDENCE: "tables changed: token"}),
    "text that stayed": (sql("UPDATE prompt SET text = 'Nothing.' WHERE prompt = ?", KEPT), {TEXTS: f"prompt/{KEPT}:"}),
    "token that stayed": (
        sql("UPDATE token SET piece = 'other' WHERE prompt = ? AND position = 2", KEPT),
        {TEXTS: f"prompt/{KEPT}:"},
    ),
    "text forged for a withheld one": (
        sql("UPDATE prompt SET text = 'He is innocent.' WHERE prompt = ?", HELD),
        {TEXTS: f"prompt/{HELD}:"},
    ),
    "token forged for a withheld one": (
        sql("UPDATE token SET piece = 'innocent' WHERE prompt = ? AND position = 1", HELD),
        {TEXTS: f"prompt/{HELD}:"},
    ),
    "length": (
        sql("UPDATE prompt SET text = regexp_replace(text, '[0-9]+$', '7') WHERE prompt = ?", HELD),
        {TEXTS: f"prompt/{HELD}:"},
    ),
    "two withheld prompts exchanged": (swap_prompts, {TEXTS: f"prompt/{HELD}:"}),
    "two leaves exchanged": (
        edit("redaction.json", swap_rows),
        {"redaction record": "with root", TEXTS: f"prompt/{HELD}:"},
    ),
    "leaf taken out": (
        edit("redaction.json", lambda v: v["leaves"].pop()),
        {"redaction record": "signed are", TEXTS: "at other places"},
    ),
    "salt taken out": (
        edit("redaction.json", lambda v: v["leaves"][KEPT].__setitem__(3, None)),
        {TEXTS: f"prompt/{KEPT}:"},
    ),
    "concepts of the record": (
        edit("redaction.json", lambda v: v["withheld"].pop()),
        {TEXTS: "names other concepts"},
    ),
    "statement of the record": (
        edit("redaction.json", lambda v: v.update(statement="sha256:" + "0" * 64)),
        {"redaction record": "belongs to statement"},
    ),
    "unknown key in the record": (edit("redaction.json", lambda v: v.update(note="x")), {"redaction record": "note"}),
    "node's label": (
        sql(
            "UPDATE node SET label = 'harmless' WHERE node = (SELECT min(node) FROM node WHERE label LIKE 'withheld%')"
        ),
        {TEXTS: "table node"},
    ),
    "concept's title": (
        sql("UPDATE node SET label = 'harmless' WHERE kind = 'concept'"),
        {EVIDENCE: "tables changed: node"},
    ),
    "finding in JSON": (
        edit("findings.json", lambda v: v["concepts"][0].__setitem__("title", "Harmless")),
        {FINDINGS: "changed: concepts", "findings agree": "carries"},
    ),
    "activation of a context": (
        edit("findings.json", lambda v: v["cards"][0]["contexts"][0]["tokens"][1].update(activation=9.0)),
        {FINDINGS: "changed: cards", "findings agree": "carries"},
    ),
    "token of a context": (
        edit("findings.json", lambda v: v["cards"][0]["contexts"][0]["tokens"][1].update(text="x")),
        {TEXTS: "a context of prompt", "findings agree": "carries"},
    ),
    "label": (
        edit("findings.json", lambda v: v["cards"][0]["labels"][0].update(text="“harmless”")),
        {TEXTS: "cards/0/labels/0", "findings agree": "carries"},
    ),
    "label taken away": (
        edit("findings.json", lambda v: v["cards"][0]["labels"][0].update(text=None)),
        {TEXTS: "cards/0/labels/0", "findings agree": "carries"},
    ),
    "continuation": (
        edit("findings.json", lambda v: v["causal"]["suppressions"][0]["continuations"][0].update(changed="no")),
        {TEXTS: "causal/suppressions/0/continuations/0", "findings agree": "carries"},
    ),
    "spaces in JSON": (
        lambda folder: (folder / "findings.json").write_bytes((folder / "findings.json").read_bytes() + b" ") and None,
        {FINDINGS: "not canonical"},
    ),
    "activations": (
        lambda folder: (folder / "activations" / "k1.rows.parquet").write_bytes(b"PAR1") and None,
        {"files intact": "changed: activations/k1.rows.parquet"},
    ),
    "manifest": (
        edit("manifest.json", lambda v: v.update(schema="x")),
        {"files intact": "changed: manifest.json", "manifest agrees": "not the signed one"},
    ),
    "another file": (add("appendix.json"), {"files intact": "not in the signed statement: appendix.json"}),
    "write-ahead log": (add("evidence.duckdb.wal"), {"files intact": "evidence.duckdb.wal"}),
    "salts put back": (add("salts.json"), {"files intact": "must not be in a redacted copy: salts.json"}),
    "database taken out": (
        lambda folder: (folder / "evidence.duckdb").unlink(),
        {"files intact": "missing: evidence.duckdb", EVIDENCE: "evidence.duckdb"},
    ),
    "database of zeros": (
        lambda folder: (folder / "evidence.duckdb").write_bytes(bytes(4096)) and None,
        {EVIDENCE: "evidence.duckdb"},
    ),
    "report taken out": (
        lambda folder: (folder / "report.html").unlink(),
        {"files intact": "missing: report.html", "findings agree": "report.html"},
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_change_fails_and_is_named(name: str, copy: Path) -> None:
    """Of numbers, texts, digests, rows, tables, files: the check that finds it says what it was."""
    attack, expected = ATTACKS[name]
    attack(copy)
    found = failed(verified(copy))
    assert set(expected) == set(found), found
    for check, words in expected.items():
        assert words in found[check]


def test_a_copy_under_another_signature_is_not_trusted(copy: Path, certificate: Path) -> None:
    """The statement's own bytes count: one changed digest in it, and nothing passes."""
    path = copy / "attestation.sigstore.json"
    bundle = json.loads(path.read_bytes())
    payload = bundle["dsseEnvelope"]["payload"]
    bundle["dsseEnvelope"]["payload"] = payload[:400] + ("A" if payload[400] != "A" else "B") + payload[401:]
    path.write_bytes(json.dumps(bundle).encode())
    result = verified(copy, trusted=certificate)
    assert not result.ok
    assert not any(check.status is CheckStatus.PASS for check in result.checks[1:])


def test_without_its_record_a_copy_is_a_broken_bundle(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The marker is what lets missing texts pass."""
    (copy / "redaction.json").unlink()
    assert run(["verify", str(copy)]) == 3
    assert "FAIL  files intact: changed: evidence.duckdb" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("suites", "concepts", "expected"),
    [
        ((), ("civilian_harm",), {UNMEASURED_MIX, NULL_MIX}),
        ((), (MIX,), {MIX}),
        (("cross_domain",), (), {MIX, NULL_MIX, UNMEASURED_MIX}),
        (("finance",), (), FINANCE),
        ((), (), {"dosing_error", UNMEASURED_MIX, *FINANCE}),
    ],
)
def test_what_a_name_takes_with_it(suites: tuple[str, ...], concepts: tuple[str, ...], expected: set[str]) -> None:
    """A concept takes the mixes that name it; a mix takes nothing; texts withheld from the start stay as they are."""
    assert _chosen(findings(), suites=suites, concepts=concepts) == expected


def test_nothing_to_withhold_is_an_error() -> None:
    """A copy that withholds nothing would only lose the seal of its reports."""
    made = findings()
    with pytest.raises(UsageError, match="withhold"):
        _chosen(replace(made, mixes=()), suites=("defense",), concepts=())


@pytest.mark.parametrize(
    ("asked", "words"), [({"suites": ("law",)}, "suite 'law'"), ({"concepts": ("fraud",)}, "mix 'fraud'")]
)
def test_unknown_names_are_refused(asked: dict[str, tuple[str, ...]], words: str, sealed: Path, tmp_path: Path) -> None:
    """The error names what there is; nothing is written."""
    with pytest.raises(UsageError, match=words) as caught:
        redact_bundle(sealed, tmp_path / "copy", **({"suites": (), "concepts": ()} | asked))
    assert "dosing_" in caught.value.expected or "finance" in caught.value.expected
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_or_inside_is_refused(sealed: Path, tmp_path: Path) -> None:
    """Nothing is overwritten, and a sealed bundle gets no new file."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError):
        redact_bundle(sealed, tmp_path / "taken", suites=(), concepts=())
    with pytest.raises(UsageError, match="--out"):
        redact_bundle(sealed, sealed / "copy", suites=(), concepts=())
    assert verify_bundle(sealed, trusted=None).ok


def test_a_full_disk_leaves_nothing(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy grows beside its name and is gone when it cannot be finished."""
    grown: list[str] = []

    def full(_: Path, target: Path) -> None:
        grown.extend(path.name for path in tmp_path.iterdir())
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OutputError, match="copy") as caught:
        redact_bundle(sealed, tmp_path / "copy", suites=(), concepts=())
    assert caught.value.found == "No space left on device"
    assert grown
    assert list(tmp_path.iterdir()) == []


def test_a_broken_bundle_is_refused(sealed: Path, tmp_path: Path) -> None:
    """A copy of what does not verify would carry a seal that it has not."""
    broken = Path(shutil.copytree(sealed, tmp_path / "bundle"))
    (broken / "salts.json").write_bytes(b"{}")
    with pytest.raises(EvidenceError, match="bundle"):
        redact_bundle(broken, tmp_path / "copy", suites=(), concepts=())
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_copy_is_not_redacted_again(part: Redaction, tmp_path: Path) -> None:
    """Its salts are gone: the original is what to redact."""
    with pytest.raises(UsageError):
        redact_bundle(part.folder, tmp_path / "copy", suites=(), concepts=())


def test_a_bundle_of_an_earlier_version_verifies_and_is_refused(signer: Signer, tmp_path: Path) -> None:
    """Its statement says nothing of single texts: exit 2, and the hint says what to do."""
    folder = tmp_path / "old"
    folder.mkdir()
    write_bundle(folder, signer, with_texts=False)
    assert verify_bundle(folder, trusted=None).ok
    with pytest.raises(UsageError) as caught:
        redact_bundle(folder, tmp_path / "copy", suites=(), concepts=())
    assert "earlier version" in str(caught.value)


def test_the_command(sealed: Path, tmp_path: Path, certificate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON for programs, exit codes in one place, and `verify` knows the copy."""
    out = tmp_path / "copy"
    assert run(["redact", str(sealed), "--out", str(out), "--concept", "dosing_error", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["withheld"]["labels"] == 1
    assert run(["verify", str(out), "--trust", str(certificate), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "redacted copy, valid"
    assert run(["redact", str(sealed), "--out", str(out)]) == 2
    assert run(["redact", str(sealed), "--out", str(tmp_path / "b"), "--suite", "law"]) == 2
    sql("UPDATE finding SET latent = 1")(out)
    assert run(["verify", str(out)]) == 3


def test_a_real_audit_redacted(audit: SealedAudit, tmp_path: Path) -> None:
    """The default model's audit: no text of a scenario is left anywhere, and all its numbers verify."""
    made = redact_bundle(audit.folder, tmp_path / "copy", suites=(), concepts=())
    assert failed(verified(made.folder, trusted=audit.certificate)) == {}
    with duckdb.connect(str(audit.folder / "evidence.duckdb"), read_only=True) as connection:
        texts = [text for (text,) in connection.execute("SELECT text FROM prompt").fetchall()]
    assert made.withheld.prompts == len(texts) > 100
    openings = {text[:40] for text in texts}
    for where, text in said(made.folder):
        assert [opening for opening in openings if opening in text] == [], where
    # Cards print token by token: without marks and blanks a text that is split over tokens is whole again.
    squeezed = "".join(strings(json.loads(unpack_page(made.folder))))
    assert [text for text in texts if "".join(text.split())[:60] in "".join(squeezed.split())] == []


def unpack_page(folder: Path) -> bytes:
    """Return the findings inside the page."""
    page = (folder / "report.html").read_text()
    return unpack(page.split('id="affidavit-findings">')[1].split("<")[0])


def strings(value: object) -> Iterator[str]:
    """Yield every text of a JSON document, in order."""
    if isinstance(value, str):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(child)
