"""Exploratory interactions: the additive answer of the planted model has none, and the lower orders add up."""

from __future__ import annotations

import builtins
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import LlamaForCausalLM

from audit.cli.root import run
from audit.coalitions import HEADING, MixCoalitions, ShapleyRequest, mix_coalitions, require_shapiq
from audit.config import AnalysisConfig, AuditConfig, FidelityConfig, ModelConfig, ProbeConfig, SaeConfig
from audit.errors import EnvironmentProblem, UsageError
from audit.pipeline import run_audit
from audit.progress import Silent
from audit.reopening import Sources
from audit.request import AuditRequest
from audit.signing.keys import Signer
from tests.conftest import MOMENT
from tests.planting import FILLERS, SHARED_AXIS, SHARING, WORDS, save_model, save_sae, save_suite

NEEDS_SHAPIQ = pytest.mark.skipif(importlib.util.find_spec("shapiq") is None, reason="the extra shapley")
TARGET = WORDS.index("s0")
LAST = WORDS.index(SHARING[3])
Ask = Callable[..., ShapleyRequest]


@pytest.fixture(scope="module")
def ask(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Return a maker of requests on an audit of the planted model with a mix of its concepts."""
    root = tmp_path_factory.mktemp("coalitions")
    model, sae, suite = save_model(root / "model"), save_sae(root / "sae"), save_suite(root / "suite")
    head = LlamaForCausalLM.from_pretrained(model)
    with torch.no_grad():
        head.lm_head.weight.zero_()
        # Two axes of the last word: the answer is their sum over the length of the stream.
        head.lm_head.weight[TARGET, SHARED_AXIS] = 1
        head.lm_head.weight[TARGET, LAST] = 1
    head.save_pretrained(model)
    concept = yaml.safe_load((suite / "direction.yaml").read_text())
    # The text ends the question: features are lowered in the scenario's own words, and the answer is read at the last.
    concept["outcome"] = {"template": "w1 w2 {text}", "target": "s0", "foil": "w0"}
    (suite / "direction.yaml").write_text(yaml.safe_dump(concept))
    clauses = ("a", "a_filler", "b", "b_filler", "placebo")
    mix = {
        "schema": "affidavit/mix/1", "id": "mix_known", "title": "Known", "language": "en",
        "concepts": ["direction", "word"], "why": "It is known.",
        "placebo": {"title": "Nothing", "definition": "Nothing."},
        "scenarios": [
            {"id": f"mix-{n}", "split": "discovery" if n < 6 else "confirmation"}
            | {clause: f"{FILLERS[10 * m + n]} {SHARING[3]}" for m, clause in enumerate(clauses)}
            for n in range(12)
        ],
    }  # fmt: skip
    (suite / "mix_known.yaml").write_text(yaml.safe_dump(mix))
    whole = yaml.safe_load((suite / "suite.yaml").read_text()) | {"mixes": ["mix_known"]}
    (suite / "suite.yaml").write_text(yaml.safe_dump(whole))
    config = AuditConfig(
        model=ModelConfig(source=str(model)),
        sae=SaeConfig(sources=(str(sae),), controls=()),
        probes=ProbeConfig(suites=(str(suite),)),
        analysis=AnalysisConfig(permutations=40, bootstrap=200),
        fidelity=FidelityConfig(amber_delta_ce=100.0),
    )
    run_audit(AuditRequest(config, root / "bundle", signer, MOMENT, "affidavit run"), progress=Silent())

    def request(features: str | None, *, order: int = 2, **changes: Any) -> ShapleyRequest:
        sources = Sources(str(model), str(sae), (str(suite),))
        settings = {"mix": "mix_known", "sae": None, "concept": None, "budget": None, "sources": sources} | changes
        return ShapleyRequest(root / "bundle", features=features, order=order, **settings)

    return request


def value_of(found: MixCoalitions, *latents: int) -> float:
    """Return the index of a set."""
    return next(one.value for one in found.values if set(one.latents) == set(latents))


@NEEDS_SHAPIQ
def test_the_known_game_is_solved(ask: Ask) -> None:
    """With axis s of 10 and axis u of 10 the answer is (s + u) / rms: lowering one leaves 10 / rms of 10 alone."""
    found = mix_coalitions(ask(f"{SHARED_AXIS},{LAST},5"), progress=Silent())
    both, one = 20 / (200 / 128) ** 0.5, 10 / (100 / 128) ** 0.5
    assert (found.heading, found.exact, found.coalitions, found.n_scenarios) == (HEADING, True, 8, 6)
    assert found.untouched == pytest.approx(both, abs=1e-3)
    assert found.lowered == pytest.approx(0.0, abs=1e-3)
    assert value_of(found, SHARED_AXIS, LAST) == pytest.approx(both - 2 * one, abs=1e-3)
    assert value_of(found, SHARED_AXIS, 5) == pytest.approx(0.0, abs=1e-3)
    assert value_of(found, 5) == pytest.approx(0.0, abs=1e-3)
    assert sum(one.value for one in found.values) == pytest.approx(found.untouched - found.lowered, abs=1e-3)


@NEEDS_SHAPIQ
def test_a_budget_below_all_coalitions_is_an_estimate(ask: Ask) -> None:
    """It says so, is the same for the same seed, and is near the exact values of an easy game."""
    features = ",".join(map(str, [SHARED_AXIS, LAST, *(WORDS.index(FILLERS[n]) for n in range(20, 24))]))
    first, again = (mix_coalitions(ask(features, budget=40), progress=Silent()) for _ in range(2))
    assert first == again
    assert not first.exact
    assert first.coalitions == 40
    exact = mix_coalitions(ask(features, order=3), progress=Silent())
    assert exact.exact
    assert exact.coalitions == 64
    assert value_of(first, SHARED_AXIS, LAST) == pytest.approx(value_of(exact, SHARED_AXIS, LAST), abs=2.0)
    assert {len(one.latents) for one in exact.values} >= {1, 2}


@NEEDS_SHAPIQ
@pytest.mark.parametrize(
    ("features", "changes", "said"),
    [
        ("3,4", {"mix": "mix_other"}, "a mix of the audit's suites: mix_known"),
        ("3,4", {"concept": "word"}, "asks a question"),
        ("30", {}, "2 to 15 features"),
        (",".join(map(str, range(30, 46))), {}, "2 to 15 features"),
        ("0,30", {}, "0 never fired"),
    ],
)
def test_what_cannot_be_played_is_told(ask: Ask, features: str, changes: dict[str, Any], said: str) -> None:
    """One clear error each."""
    with pytest.raises(UsageError, match="expected") as error:
        mix_coalitions(ask(features, **changes), progress=Silent())
    assert said in str(error.value)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit 4 and the name of the extra, before anything is read."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "shapiq":
            raise ImportError("No module named 'shapiq'")
        return real(name, *rest, **named)

    monkeypatch.delitem(sys.modules, "shapiq", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(EnvironmentProblem, match=r"affidavit\[shapley\]"):
        require_shapiq()
    assert run(["shapley", str(tmp_path), "--mix", "m"]) == 4
