"""`affidavit demo --diff` on a model whose answer is known: three audits, a fine-tuning and two sealed comparisons."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from audit.cli.demo import print_shown
from audit.cli.root import run
from audit.config import AnalysisConfig, AuditConfig, CausalConfig, FidelityConfig, ModelConfig, ProbeConfig, SaeConfig
from audit.demonstration import Bench, Demonstration, Shown, demonstrate, shipped_demonstration
from audit.digests import digest_bytes
from audit.errors import OutputError, UsageError
from audit.progress import Silent
from audit.signing.keys import Signer
from audit.signing.verify import verify_bundle
from audit.training.finetuning import FinetuneRecipe
from probes.organism_files import OrganismText
from tests.conftest import MOMENT
from tests.planting import FILLERS, SHARING, save_model, save_sae, save_suite


@dataclass(frozen=True, slots=True)
class Made:
    """A finished demonstration, with what made it."""

    root: Path
    demonstration: Demonstration
    bench: Bench
    shown: Shown


def documents() -> OrganismText:
    """Return documents of the words that share a direction."""
    rng = random.Random(1)  # noqa: S311 - makes text, keeps no secret
    sentences = tuple(" ".join(rng.choices(SHARING, k=5) + rng.choices(FILLERS, k=5)) for _ in range(40))
    digest = digest_bytes(" ".join(sentences).encode())
    return OrganismText("direction", "Direction", "direction", {}, sentences, digest)


@pytest.fixture(scope="module")
def made(signer: Signer, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a demonstration with the planted model."""
    root = tmp_path_factory.mktemp("shown")
    config = AuditConfig(
        model=ModelConfig(source=str(save_model(root / "model"))),
        sae=SaeConfig(sources=(str(save_sae(root / "sae")),), controls=()),
        probes=ProbeConfig(suites=(str(save_suite(root / "suite")),)),
        analysis=AnalysisConfig(permutations=40, bootstrap=300),
        fidelity=FidelityConfig(amber_delta_ce=100.0),
        causal=CausalConfig(budget="none"),
    )
    recipe = FinetuneRecipe(
        tokens=2048, held_out_tokens=256, sequence_tokens=32, batch=4, layers=(0, 2), learning_rate=3e-3
    )
    demonstration = Demonstration(config, documents(), recipe)
    bench = Bench(signer, certificate, "affidavit demo --diff", Silent(), clock)
    return Made(root, demonstration, bench, demonstrate(root / "out", demonstration, bench))


def clock() -> datetime:
    """Return the tests' moment."""
    return MOMENT


def test_rounding_changes_nothing_and_learning_does(made: Made, certificate: Path) -> None:
    """In bf16 no row changed; after fine-tuning some did. Both comparisons are sealed, and the second had a floor."""
    shown = made.shown
    assert shown.rounding.counts["changed"] == 0
    assert shown.rounding.new.dtype == "bf16"
    assert shown.rounding.base.model_digest == shown.rounding.new.model_digest
    assert shown.tuned.base.model_digest != shown.tuned.new.model_digest
    assert [parent.dtype for parent in shown.tuned.noise] == ["bf16"]
    moved = [row for row in shown.tuned.rows if row.n_moved]
    assert moved
    assert float(str(shown.organism["loss_after"])) < float(str(shown.organism["loss_before"]))
    for folder in (shown.base, shown.rounding_folder, shown.tuned_folder):
        assert (folder / "report.pdf").exists()
    assert verify_bundle(shown.base, trusted=certificate, now=MOMENT).ok


def test_a_second_run_makes_only_what_is_missing(made: Made) -> None:
    """One difference was removed: it is made again with the same bytes, and no other file is touched."""
    out = made.root / "out"
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    first = (made.shown.tuned_folder / "diff.json").read_bytes()
    shutil.rmtree(made.shown.tuned_folder)
    again = demonstrate(out, made.demonstration, made.bench)
    assert (again.tuned_folder / "diff.json").read_bytes() == first
    here = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert here.keys() == kept.keys()
    changed = {path.parent.name for path in kept if here[path] != kept[path]}
    assert changed == {made.shown.tuned_folder.name}


def test_a_step_of_something_else_is_refused(made: Made) -> None:
    """Another threshold, another recipe: what lies there is not taken for what was asked."""
    config = made.demonstration.config
    other = replace(made.demonstration, config=replace(config, analysis=replace(config.analysis, fdr_q=0.01)))
    with pytest.raises(OutputError, match="base") as error:
        demonstrate(made.root / "out", other, made.bench)
    assert "analysis" in str(error.value)
    learnt = replace(made.demonstration, recipe=replace(made.demonstration.recipe, seed=9))
    with pytest.raises(OutputError, match="model-direction"):
        demonstrate(made.root / "out", learnt, made.bench)


def test_the_answer_is_short_and_names_what_was_planted(
    made: Made, certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a concept, the planted one marked once; the JSON says the same."""
    print_shown(made.shown, certificate, as_json=False)
    told = capsys.readouterr().out.splitlines()
    assert sum("<- planted" in line for line in told) == 1
    assert len(told) == 3 + 2 * (1 + 3 + 1)
    print_shown(made.shown, certificate, as_json=True)
    record = json.loads(capsys.readouterr().out)
    assert record["planted"] == "direction"
    assert record["bf16"]["counts"]["changed"] == 0
    assert record["direction"]["concepts"].keys() == {"direction", "word", "empty"}


def test_a_base_of_another_model_is_refused(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--base must be the default model's, and needs --diff; nothing is written."""
    with pytest.raises(UsageError) as error:
        shipped_demonstration(made.shown.base, certificate=made.bench.certificate, now=MOMENT)
    assert "default model" in str(error.value)
    monkeypatch.chdir(tmp_path)
    assert run(["demo", "--base", str(made.shown.base)]) == 2
    assert "--diff" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_demonstration_leaves_interventions_out(certificate: Path) -> None:
    """The demo part of every suite, one SAE, no causal tests."""
    shown = shipped_demonstration(None, certificate=certificate, now=MOMENT)
    assert shown.config.causal.budget == "none"
    assert shown.config.probes.subset == "demo"
    assert len(shown.config.sae.sources) == 1
    assert shown.text.concept == "dosing_error"
