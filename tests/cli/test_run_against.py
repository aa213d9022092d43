"""`affidavit run --against BASE` on models whose answer is known: the same questions, and what changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from audit.against import read_base, settings_against
from audit.cli.root import run
from audit.config import Dtype, ModelConfig, PromptFormat
from audit.records import Verdict
from audit.signing.bundle_files import DIFFERENCE, REDACTION
from audit.signing.difference import read_difference
from audit.signing.verify import verify_bundle
from tests.planting import SHARED_AXIS, SHARING, WORDS, save_model, save_sae, save_suite

CONFIG = """
[model]
source = "{root}/model"
[sae]
sources = ["{root}/sae"]
controls = []
[probes]
suites = ["{root}/suite"]
[analysis]
permutations = 40
bootstrap = 300
[fidelity]
amber_delta_ce = 100.0
[causal]
budget = "none"
"""
# What a bundle cannot say: where SAEs and suites of the user's own lie.
PLACES = """
[sae]
sources = ["{root}/sae"]
controls = []
[probes]
suites = ["{root}/suite"]
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A sealed base with what made it."""

    root: Path

    @property
    def base(self) -> Path:
        """Return the base's bundle."""
        return self.root / "base"

    @property
    def key(self) -> list[str]:
        """Return the options of the key."""
        return ["--key", str(self.root / "key" / "key.pem")]

    @property
    def certificate(self) -> Path:
        """Return the certificate of the key."""
        return self.root / "key" / "certificate.pem"

    def config(self, folder: Path, more: str = "") -> Path:
        """Write a configuration with the places, and more."""
        path = folder / "places.toml"
        path.write_text(PLACES.format(root=self.root) + more)
        return path

    def against(self, *arguments: object) -> int:
        """Run the command against the base and return its exit code."""
        return run(["run", "--against", str(self.base), *self.key, *map(str, arguments), "--quiet"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a base audit by the command line, and a model whose shared direction is longer."""
    root = tmp_path_factory.mktemp("against")
    save_model(root / "model")
    save_sae(root / "sae")
    save_suite(root / "suite")
    (root / "audit.toml").write_text(CONFIG.format(root=root))
    shutil.copytree(root / "model", root / "longer")
    weights = load_file(root / "longer" / "model.safetensors")
    weights["model.embed_tokens.weight"][[WORDS.index(word) for word in SHARING], SHARED_AXIS] = 15
    save_file(weights, root / "longer" / "model.safetensors", metadata={"format": "pt"})
    assert run(["keys", "new", "--out", str(root / "key"), "--name", "Tests"]) == 0
    made = Place(root)
    assert run(["run", "--config", str(root / "audit.toml"), *made.key, "--out", str(made.base), "--quiet"]) == 0
    return made


def test_the_planted_change_is_found_and_both_are_sealed(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The concept whose direction is longer ends as changed, the others as equivalent; both folders verify."""
    capsys.readouterr()
    out, config = tmp_path / "new", place.config(tmp_path)
    code = place.against(
        "--model", place.root / "longer", "--config", config, "--trust", place.certificate, "--out", out
    )
    told = capsys.readouterr()
    assert code == 0, told.err
    difference = tmp_path / "new-difference"
    result = read_difference((difference / DIFFERENCE).read_bytes())
    assert {part.id: part.verdict for part in result.concepts} == {
        "direction": Verdict.CHANGED,
        "word": Verdict.EQUIVALENT,
        "empty": Verdict.EQUIVALENT,
    }
    assert next(part.id for part in result.concepts if part.rank == 1) == "direction"
    assert "changed         direction" in told.out
    now = datetime.now(UTC)
    assert verify_bundle(out, trusted=place.certificate, now=now).ok
    parents = {result.base.statement, result.new.statement}
    statements = [verify_bundle(folder, trusted=None, now=now).statement for folder in (place.base, out)]
    assert parents == {statement.digest for statement in statements if statement is not None}
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    assert str(tmp_path) not in (difference / "manifest.json").read_text()


def test_the_same_model_changes_nothing(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The base's own model again: nothing changed, in one JSON document with the folder of the difference."""
    capsys.readouterr()
    config, where = place.config(tmp_path), tmp_path / "compared"
    options = ("--model", place.root / "model", "--config", config, "--out", tmp_path / "again", "--json")
    assert place.against(*options, "--difference-out", where) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["difference"]["folder"] == str(where)
    assert told["difference"]["counts"]["changed"] == 0
    assert set(told["difference"]["concepts"].values()) == {"equivalent"}
    assert told["bundle"] == str(tmp_path / "again")


def test_the_base_gives_every_setting_but_the_free_ones(place: Place, tmp_path: Path) -> None:
    """Thresholds, part and format are the base's; model, arithmetic, batches and report are the user's."""
    base = read_base(place.base, trusted=place.certificate, now=datetime.now(UTC))
    free = '[model]\nsource = "new"\ndtype = "bf16"\n[capture]\nbatch_tokens = 99\n[report]\ntitle = "Second"\n'
    settings = settings_against(base, path=place.config(tmp_path, free), model=None)
    assert settings.model == ModelConfig("new", Dtype.BF16)
    assert settings.capture.batch_tokens == 99
    assert settings.capture.outlier_norm_factor == base.config.capture.outlier_norm_factor
    assert settings.report.title == "Second"
    assert settings.analysis == base.config.analysis
    assert settings.analysis.permutations == 40
    assert settings.fidelity.amber_delta_ce == 100.0
    assert settings.causal.budget == "none"
    assert settings.probes.format is PromptFormat.PLAIN
    # A key that says what the base did is no conflict, and --model goes before the file.
    same = place.config(tmp_path, "[analysis]\npermutations = 40\n[model]\nsource = 'a'\n")
    assert settings_against(base, path=same, model="b").model.source == "b"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("[analysis]\nfdr_q = 0.01\npermutations = 41\n", "analysis.fdr_q is 0.05 in the base and 0.01"),
        ("[interaction]\nmin_expected = 6.0\n", "interaction.min_expected is 5.0 in the base and 6.0"),
        ("[capture]\noutlier_norm_factor = 3.0\n", "capture.outlier_norm_factor is 10.0 in the base and 3.0"),
        ("[causal]\nshams = 50\n", "causal.shams is 199 in the base and 50"),
        ("[analysis]\nunknown = 1\n", "analysis.unknown"),
    ],
)
def test_a_conflict_is_one_error(
    more: str, named: str, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 with both values, every key in the one message, and nothing is written."""
    config = place.config(tmp_path, more)
    code = place.against("--model", place.root / "model", "--config", config, "--out", tmp_path / "out")
    told = capsys.readouterr().err
    assert code == 2
    assert named in told
    assert told.count("error:") == 1
    assert ("permutations is 40" in told) == ("permutations = 41" in more)
    assert [path.name for path in tmp_path.iterdir()] == ["places.toml"]


def test_what_a_bundle_cannot_say_is_asked_for(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new model, SAEs and suites of the user's own: each is named, none is guessed from a name."""
    assert place.against("--config", place.config(tmp_path), "--out", tmp_path / "out") == 2
    assert "--model" in capsys.readouterr().err
    assert place.against("--model", place.root / "model", "--out", tmp_path / "out") == 2
    assert "sae.sources: sae" in capsys.readouterr().err
    only = tmp_path / "only.toml"
    only.write_text(f'[sae]\nsources = ["{place.root}/sae"]\ncontrols = []\n')
    assert place.against("--model", place.root / "model", "--config", only, "--out", tmp_path / "out") == 2
    assert "probes.suites" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_changed_suite_is_refused(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The digest decides, not the name; nothing is measured."""
    suite = tmp_path / "suite"
    shutil.copytree(place.root / "suite", suite)
    written = yaml.safe_load((suite / "suite.yaml").read_text()) | {"version": "2"}
    (suite / "suite.yaml").write_text(yaml.safe_dump(written))
    config = tmp_path / "other.toml"
    config.write_text(PLACES.format(root=place.root).replace(f"{place.root}/suite", str(suite)))
    assert place.against("--model", place.root / "model", "--config", config, "--out", tmp_path / "out") == 2
    assert "known has changed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_base_that_does_not_hold_stops_before_anything_runs(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tampered: 3. Redacted, no bundle, sealed by another than the pinned key: 2 or 3. Nothing is written."""
    shutil.copytree(place.base, tmp_path / "tampered")
    findings = tmp_path / "tampered" / "findings.json"
    findings.write_bytes(findings.read_bytes() + b" ")
    (tmp_path / "redacted").mkdir()
    (tmp_path / "redacted" / REDACTION).write_text("{}")
    options = [*place.key, "--model", str(place.root / "model"), "--out", str(tmp_path / "out"), "--quiet"]
    for name, code, words in (("tampered", 3, "findings.json"), ("redacted", 2, "redacted"), ("nothing", 2, "nothing")):
        assert run(["run", "--against", str(tmp_path / name), *options]) == code
        assert words in capsys.readouterr().err
    assert run(["keys", "new", "--out", str(tmp_path / "other"), "--name", "Other"]) == 0
    other = tmp_path / "other" / "certificate.pem"
    assert place.against("--model", place.root / "model", "--trust", other, "--out", tmp_path / "out") == 3
    # The base holds, the new bundle would not: said before the audit, not after it.
    config = place.config(tmp_path)
    swapped = ["--key", str(tmp_path / "other" / "key.pem"), *options[2:], "--config", str(config)]
    capsys.readouterr()
    assert run(["run", "--against", str(place.base), *swapped, "--trust", str(place.certificate)]) == 2
    assert "this key's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out-difference").exists()


def test_options_of_a_comparison_need_a_base(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--noise, --trust and --difference-out alone are told; so is a difference's folder that is taken."""
    out = ["--out", str(tmp_path / "out")]
    for option in ("--noise", "--trust", "--difference-out"):
        assert run(["run", *place.key, *out, option, str(tmp_path / "x")]) == 2
        assert f"{option}\n" in capsys.readouterr().err
    (tmp_path / "out-difference").mkdir()
    assert place.against("--model", place.root / "model", *out) == 2
    assert "out-difference" in capsys.readouterr().err
