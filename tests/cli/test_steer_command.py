"""`affidavit steer` on a sealed audit of the planted model: what it prints, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaForCausalLM

from audit.cli.root import run
from audit.config import AnalysisConfig, AuditConfig, FidelityConfig, ModelConfig, ProbeConfig, SaeConfig
from audit.pipeline import run_audit
from audit.progress import Silent
from audit.records import Suppression, parse_record
from audit.request import AuditRequest
from audit.signing.keys import Signer
from tests.conftest import MOMENT
from tests.planting import SHARED_AXIS, WORDS, save_model, save_sae, save_suite

TARGET = WORDS.index("s0")


@dataclass(frozen=True, slots=True)
class Place:
    """A sealed bundle and the parts that made it."""

    bundle: Path
    model: Path
    sae: Path
    suite: Path

    def command(self, *arguments: str) -> list[str]:
        """Return a steer command that names every part."""
        return ["steer", str(self.bundle), *arguments, "--model", str(self.model), "--sae-source", str(self.sae),
                "--suites", str(self.suite), "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def place(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return an audit of the planted model, whose head reads the shared axis; one concept asks a question."""
    root = tmp_path_factory.mktemp("steer")
    found = Place(root / "bundle", save_model(root / "model"), save_sae(root / "sae"), save_suite(root / "suite"))
    model = LlamaForCausalLM.from_pretrained(found.model)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[TARGET, SHARED_AXIS] = 1
    model.save_pretrained(found.model)
    path = found.suite / "direction.yaml"
    concept = yaml.safe_load(path.read_text())
    # The question ends in a word of the direction: there the head has something to say.
    concept["outcome"] = {"template": "{text} w1 s3", "target": "s0", "foil": "w0"}
    path.write_text(yaml.safe_dump(concept))
    config = AuditConfig(
        model=ModelConfig(source=str(found.model)),
        sae=SaeConfig(sources=(str(found.sae),), controls=()),
        probes=ProbeConfig(suites=(str(found.suite),)),
        analysis=AnalysisConfig(permutations=40, bootstrap=200),
        fidelity=FidelityConfig(amber_delta_ce=100.0),
    )
    run_audit(AuditRequest(config, found.bundle, signer, MOMENT, "affidavit run"), progress=Silent())
    return found


@pytest.fixture(autouse=True)
def _own_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def test_the_record_and_the_table_tell_the_same(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """The concept is the one that the feature is confirmed for; the dose is as asked for; texts of three scenarios."""
    arguments = ["--suppress", f"1:{SHARED_AXIS}", "--dose", "1", "--new-tokens", "3"]
    assert run([*place.command(*arguments), "--json"]) == 0
    record: Suppression = parse_record(Suppression, json.loads(capsys.readouterr().out))
    assert (record.concept, record.sae, record.latents) == ("direction", "planted", (SHARED_AXIS,))
    assert record.maxima == pytest.approx((10.0,))
    (dose,) = record.doses
    assert dose.dose == 1.0
    assert dose.outcome.value < 2 * min(dose.sham_outcomes) < 0
    assert [text.untouched for text in record.continuations] == ["s0 s0 s0"] * 3
    assert run(place.command(*arguments)) == 0
    told = capsys.readouterr()
    assert f"suppress  {SHARED_AXIS} (max 10.00) of planted" in told.out
    assert f"{dose.outcome.value:+.3f}" in told.out
    assert f"{dose.outcome_beside:+.3f}  {min(dose.sham_outcomes):+.3f} to" in told.out
    assert f"on {dose.n_beside} scenarios; beside" in told.out
    assert told.out.count("untouched: s0 s0 s0") == 3
    assert told.err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suppress", "shared"], "found:    'shared'"),
        (["--suppress", "5,"], "found:    ''"),
        (["--suppress", "-5"], "found:    '-5'"),
        (["--suppress", "5,5"], "a feature named twice"),
        (["--suppress", "1:5,0:6"], "several SAEs"),
        (["--suppress", "4:5"], "layer 4"),
        (["--suppress", "5", "--sae", "other"], "--sae other"),
        (["--suppress", "128"], "0 to 127"),
        (["--suppress", "0"], "never fired"),
        (["--suppress", "5", "--concept", "nothing"], "asks a question: direction"),
        (["--suppress", "5", "--concept", "word"], "asks a question: direction"),
        (["--suppress", "40"], "--concept: direction"),
        (["--suppress", "5", "--dose", "0"], "--dose"),
    ],
)
def test_what_the_audit_does_not_know_exits_2(
    place: Place, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear error each, and nothing on stdout."""
    assert run(place.command(*arguments)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err


def test_parts_that_no_bundle_holds_must_be_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Own suites, models and SAEs lie where only the user knows; the error says which option is missing."""
    parts = {"--suites": place.suite, "--model": place.model, "--sae-source": place.sae}
    for missing in parts:
        named = [text for option, path in parts.items() if option != missing for text in (option, str(path))]
        assert run(["steer", str(place.bundle), "--suppress", f"{SHARED_AXIS}", *named, "--quiet"]) == 2
        assert missing in capsys.readouterr().err


def test_other_parts_than_the_audit_had_exit_3(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model, SAE or suite with another digest, a database that was changed: each is named, nothing is measured."""
    model, suite, bundle = (
        Path(shutil.copytree(path, tmp_path / path.name)) for path in (place.model, place.suite, place.bundle)
    )
    loaded = LlamaForCausalLM.from_pretrained(model)
    with torch.no_grad():
        loaded.lm_head.weight[0, 0] = 1
    loaded.save_pretrained(model)
    (suite / "word.yaml").write_text((suite / "word.yaml").read_text().replace("A word.", "One word."))
    (tmp_path / "other").mkdir()
    sae = Path(shutil.copytree(place.sae, tmp_path / "other" / "sae"))
    weights = next(sae.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 64
    weights.write_bytes(bytes(data))
    with (bundle / "evidence.duckdb").open("ab") as stream:
        stream.write(b"\0")
    named = {"--model": place.model, "--suites": place.suite, "--sae-source": place.sae}
    for option, path in {"--model": model, "--suites": suite}.items():
        parts = [text for name, own in (named | {option: path}).items() for text in (name, str(own))]
        assert run(["steer", str(place.bundle), "--suppress", f"{SHARED_AXIS}", *parts, "--quiet"]) == 3
        assert option[2:7] in capsys.readouterr().err
    parts = [text for name, own in named.items() for text in (name, str(own))]
    assert run(["steer", str(bundle), "--suppress", f"{SHARED_AXIS}", *parts]) == 3
    assert "evidence.duckdb" in capsys.readouterr().err
    assert run(["steer", str(tmp_path), "--suppress", "5", *parts]) == 3
    assert "manifest.json" in capsys.readouterr().err
    parts = [text for name, own in (named | {"--sae-source": sae}).items() for text in (name, str(own))]
    assert run(["steer", str(place.bundle), "--suppress", f"{SHARED_AXIS}", *parts, "--quiet"]) != 0
    assert "expected:" in capsys.readouterr().err
