"""`affidavit sae check` and `sae inspect` as a stranger meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.bench import open_bench
from audit.capture.sae_sources import load_sae
from audit.certification import CERTIFICATE_FILE, certify
from audit.cli.fidelity_table import latent_lines
from audit.cli.root import run
from audit.inspection import inspect_latent
from audit.progress import Silent
from audit.records import Certificate, as_json, parse_record
from tests.capture.conftest import save_model
from tests.capture.test_sae import LATENTS
from tests.test_certification import DEAD, DENSE, Parts, make_parts, save_sae

TOKENS, SPLICED, READ = 1500, 1400, 2500
Command = Callable[..., int]


@pytest.fixture
def affidavit(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return the command line as a function from arguments to the exit code."""
    # The command sets the process's hook for crashes; pytest wants its own back.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return lambda *arguments: run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Return a model, an SAE and 40 documents. Tests must not change them."""
    return make_parts(tmp_path_factory.mktemp("parts"), documents=40)


@pytest.fixture(scope="module")
def certificate(parts: Parts) -> Certificate:
    """Return what the check must say."""
    return certify(parts.request(tokens=TOKENS, spliced_tokens=SPLICED), progress=Silent())


def check(parts: Parts, *more: object, **changes: object) -> list[object]:
    """Return the arguments of a short check, with some of its files changed."""
    options = {"sae": parts.sae, "model": parts.model, "text": parts.text} | changes
    return [
        "sae", "check", options["sae"], "--model", options["model"], "--text", options["text"],
        "--all-documents", "--tokens", TOKENS, "--spliced-tokens", SPLICED, *more,
    ]  # fmt: skip


def look(parts: Parts, latent: int, *more: object) -> list[object]:
    """Return the arguments of a short look at a latent."""
    return [
        "sae",
        "inspect",
        parts.sae,
        latent,
        "--model",
        parts.model,
        "--text",
        parts.text,
        "--all-documents",
        "--tokens",
        READ,
        *more,
    ]


def test_check_prints_what_was_measured_and_a_table(
    affidavit: Command, parts: Parts, certificate: Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    """SAE, model and text by digest, then one line a row with its colour; nothing on stderr, nothing written."""
    before = sorted(p.name for p in parts.sae.iterdir())
    assert affidavit(*check(parts)) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert told.err == ""
    for digest in (certificate.sae_digest, certificate.model_digest, certificate.text_digest):
        assert digest[:19] in "".join(lines[:3])
    assert f"{certificate.tokens:,} tokens" in lines[3]
    start = next(n for n, line in enumerate(lines) if line.startswith("scope"))
    for line, row in zip(lines[start + 1 :], certificate.rows, strict=False):
        cells = line.split()
        assert (cells[0], cells[-1]) == (row.scope, row.colour.value)
        assert cells[1:4] == [f"{row.tokens:,}", f"{row.fvu:.3f}", f"{row.cosine:.3f}"]
        assert row.delta_ce is not None
        assert f"{row.delta_ce.value:.3f}" in cells
    assert lines[start + 1 + len(certificate.rows)] == ""
    assert "seeds" not in told.out
    assert sorted(p.name for p in parts.sae.iterdir()) == before


def test_check_prints_the_record_as_json(
    affidavit: Command, parts: Parts, certificate: Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing but JSON on stdout, equal to the certificate of the library."""
    assert affidavit(*check(parts, "--json")) == 0
    loaded = json.loads(capsys.readouterr().out)
    assert loaded == json.loads(json.dumps(as_json(certificate)))
    assert parse_record(Certificate, loaded) == certificate


def test_check_writes_the_certificate_beside_the_weights(
    affidavit: Command, parts: Parts, certificate: Certificate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds the record, its path is told, and the SAE stays the one that was measured."""
    folder = tmp_path / "sae"
    shutil.copytree(parts.sae, folder)
    digest = load_sae(str(folder)).record.digest
    assert affidavit(*check(parts, "--write", sae=folder)) == 0
    path = folder / CERTIFICATE_FILE
    assert f"written   {path}" in capsys.readouterr().out.splitlines()
    assert parse_record(Certificate, json.loads(path.read_text())) == certificate
    assert load_sae(str(folder)).record.digest == digest == certificate.sae_digest
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_check_with_another_seed_tells_the_share(
    affidavit: Command, parts: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    """Matched with the same latents in another order, all of it."""
    assert affidavit(*check(parts, "--other-seed", parts.other)) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seeds")]
    assert line.startswith("seeds     100.0% of the latents found again by other")


def test_inspect_prints_a_latent(affidavit: Command, parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    """Its density, activations, tokens and places, with a mark at the peak; the lines of the library's view."""
    assert affidavit(*look(parts, DENSE)) == 0
    told = capsys.readouterr()
    request = parts.request()
    bench = open_bench(request.sae, request.model, request.text, all_documents=True, progress=Silent())
    view = inspect_latent(bench, DENSE, tokens=READ, contexts=4, chat_share=0.25, progress=Silent())
    assert told.out.splitlines() == list(latent_lines(view))
    assert told.err == ""
    assert f"density   {view.density:.3%} of {view.tokens:,} tokens" in told.out
    assert "▶" in told.out
    assert affidavit(*look(parts, DEAD[0])) == 0
    assert "it never fires on this text" in capsys.readouterr().out


def test_inspect_prints_a_latent_as_json(affidavit: Command, parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but JSON on stdout, with as many places of each level as asked for."""
    assert affidavit(*look(parts, DENSE, "--json", "--contexts", 1)) == 0
    loaded = json.loads(capsys.readouterr().out)
    assert (loaded["sae"], loaded["latent"]) == ("small", DENSE)
    assert 0 < loaded["density"] < 1
    assert [c["level"] for c in loaded["contexts"]] == [
        "strongest",
        "second quarter",
        "third quarter",
        "weakest quarter",
    ]
    assert loaded["contexts"][0]["peak"] == loaded["quantiles"][3]
    assert affidavit(*look(parts, DENSE, "--json", "--contexts", 0)) == 0
    assert json.loads(capsys.readouterr().out)["contexts"] == []


def assert_error(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """Require an error of four lines on stderr that names the words, and nothing on stdout."""
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert told.out == ""
    assert [line[:10] for line in lines[1:]] == ["  expected", "  found:  ", "  to do:  "]
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in told.err


@pytest.mark.parametrize(
    ("part", "code", "words"),
    [
        ("sae", 2, ("nowhere", "nothing of that name")),
        ("text", 2, ("nowhere.jsonl",)),
        ("model", 4, ("nowhere",)),
    ],
)
def test_a_path_that_leads_nowhere_is_told(
    *,
    affidavit: Command,
    parts: Parts,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
    code: int,
    words: tuple[str, ...],
) -> None:
    """Four lines and the documented exit code: 2 for what was asked, 4 for a model that is not here."""
    missing = tmp_path / ("nowhere.jsonl" if part == "text" else "nowhere")
    assert affidavit(*check(parts, **{part: missing})) == code
    assert_error(capsys, *words)


def test_a_model_folder_without_a_model_is_told(
    affidavit: Command, parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4, and what belongs there."""
    assert affidavit(*check(parts, model=tmp_path)) == 4
    assert_error(capsys, "config.json")


def test_another_model_is_refused(
    affidavit: Command, parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A site that it does not have."""
    folder = save_sae(tmp_path / "sae", site="resid_post.9")
    capsys.readouterr()
    assert affidavit(*check(parts, sae=folder, model=save_model(tmp_path / "other", "gpt2"))) == 2
    told = capsys.readouterr()
    assert "resid_post.9" in told.err
    assert "from 0 to 3" in told.err


def test_too_little_text_is_told(affidavit: Command, parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 with what there is."""
    assert affidavit(*check(parts, "--tokens", 10**7)) == 2
    assert_error(capsys, "10,000,000 tokens", "at most")


def test_a_latent_out_of_range_is_told(affidavit: Command, parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 with the range."""
    assert affidavit(*look(parts, LATENTS)) == 2
    assert_error(capsys, f"0 to {LATENTS - 1}")


def test_a_damaged_model_is_invalid_evidence_and_writes_nothing(
    affidavit: Command, parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 for an SAE whose weights are not those of its card; no certificate is made of it."""
    folder = tmp_path / "sae"
    shutil.copytree(parts.sae, folder)
    weights = folder / "sae.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert affidavit(*check(parts, "--write", sae=folder)) == 2
    assert_error(capsys, "sha256:")
    assert not (folder / CERTIFICATE_FILE).exists()


def test_help_answers_without_torch() -> None:
    """`sae --help` and the help of each of its commands import neither torch nor transformers."""
    code = (
        "import sys\n"
        "from audit.cli.root import run\n"
        "codes = [run(['sae', *words, '--help']) for words in ([], ['check'], ['inspect'], ['train'])]\n"
        "print(codes, sorted({'torch', 'transformers', 'scipy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0] []"
    for word in ("train", "check", "inspect", "--other-seed", "--contexts"):
        assert word in done.stdout
