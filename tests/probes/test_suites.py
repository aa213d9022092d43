"""The shipped suites keep every rule of the lint, under the default model's own tokenizer."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from audit.capture.model import load_token_counter
from audit.config import DEFAULT_SOURCE
from audit.errors import SuiteError
from probes.data_card import data_card
from probes.lint import TARGET_ACCURACY, LintReport, lint
from probes.loader import builtin_names, load_suite, load_suites
from probes.schema import Arm, Cell, Concept, Mix, Order, Split

SHIPPED = load_suites(builtin_names())
CONCEPTS = [concept for suite in SHIPPED for concept in suite.concepts]
MIXES = [mix for suite in SHIPPED for mix in suite.mixes]
DOMAINS = {
    "healthcare": {
        "patient_privacy",
        "dosing_error",
        "drug_interaction",
        "self_harm",
        "emergency_triage",
        "consent_minors",
        "clinical_bias",
        "medical_misinformation",
    },
    "finance": {
        "insider_trading",
        "money_laundering",
        "fair_lending",
        "market_manipulation",
        "unsuitable_advice",
        "identity_data",
        "sanctions_evasion",
        "accounting_fraud",
    },
    "defense": {
        "civilian_harm",
        "proportionality",
        "autonomous_weapons",
        "classified_information",
        "surveillance",
        "export_control",
        "detainees",
        "cyber_operations",
    },
}
CARDS = Path(__file__).parents[2] / "docs" / "data-cards"


@pytest.fixture(scope="module")
def report() -> LintReport:
    """Return what the lint says of all shipped suites together."""
    return lint(SHIPPED, load_token_counter(DEFAULT_SOURCE), tokenizer=DEFAULT_SOURCE)


def test_each_domain_has_its_concepts_and_mixes() -> None:
    """Eight concepts a domain, four mixes within and three across domains."""
    assert {s.id: {c.id for c in s.concepts} for s in SHIPPED if s.concepts} == DOMAINS
    assert {s.id: len(s.mixes) for s in SHIPPED} == {"healthcare": 4, "finance": 4, "defense": 4, "cross_domain": 3}
    domain_of = {concept: domain for domain, concepts in DOMAINS.items() for concept in concepts}
    for suite in SHIPPED:
        for mix in suite.mixes:
            first, second = (domain_of[concept] for concept in mix.concepts)
            assert (first != second) if suite.id == "cross_domain" else (first == second == suite.id)


def test_the_lint_finds_nothing(report: LintReport) -> None:
    """No error and no warning: balance, leakage, duplicates, splits, outcomes, content, counts."""
    assert [str(problem) for problem in report.problems] == []
    assert max(figures.word_accuracy for figures in report.concepts) <= TARGET_ACCURACY


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda c: c.id)
def test_a_concept_is_whole(concept: Concept) -> None:
    """40 and 24 scenarios, cue arms spread over both splits, rules, and a question."""
    assert (len(concept.in_split(Split.DISCOVERY)), len(concept.in_split(Split.CONFIRMATION))) == (40, 24)
    cued = [s for s in concept.scenarios if Arm.CUE in s.arms and Arm.CUE_FREE in s.arms]
    assert len(cued) >= 24
    assert sum(s.split is Split.CONFIRMATION for s in cued) >= 8
    assert {Arm.CUE in s.measured_arms for s in cued if s.split is Split.CONFIRMATION} == {True}
    assert {Arm.CUE in s.measured_arms for s in cued if s.split is Split.DISCOVERY} == {False}
    assert concept.outcome is not None
    assert len(concept.rules) >= 3


@pytest.mark.parametrize("mix", MIXES, ids=lambda m: m.id)
def test_a_mix_is_whole(mix: Mix) -> None:
    """40 scenarios with twelve different prompts each, and a placebo that is named."""
    assert (len(mix.in_split(Split.DISCOVERY)), len(mix.in_split(Split.CONFIRMATION))) == (16, 24)
    for scenario in mix.scenarios:
        assert len({scenario.text(cell, order) for cell in Cell for order in Order}) == 12
    assert mix.placebo.title


def test_the_demonstration_is_named_in_the_suites() -> None:
    """One concept a domain and a mix of two of them, in the files, not in the code."""
    part = load_suites([*DOMAINS, "cross_domain"], subset="demo")
    assert [[concept.id for concept in suite.concepts] for suite in part] == [
        ["dosing_error"],
        ["sanctions_evasion"],
        ["export_control"],
        [],
    ]
    mixes = [mix for suite in part for mix in suite.mixes]
    assert [mix.id for mix in mixes] == ["mix_sanctions_evasion_export_control"]
    assert set(mixes[0].concepts) <= {concept.id for suite in part for concept in suite.concepts}


@pytest.mark.parametrize("suite", SHIPPED, ids=lambda s: s.id)
def test_the_data_card_is_that_of_the_suite(suite: object) -> None:
    """Every figure in the card is the one that is measured now: `make cards` writes them."""
    written = data_card(suite, load_token_counter(DEFAULT_SOURCE), tokenizer=DEFAULT_SOURCE)  # type: ignore[arg-type]
    assert (CARDS / f"{suite.id}.md").read_text(encoding="utf-8") == written  # type: ignore[attr-defined]


def test_mixes_across_domains_need_their_suites() -> None:
    """Alone they name concepts that nobody defines; the error says which."""
    with pytest.raises(SuiteError, match="mix_") as caught:
        load_suites(["cross_domain"])
    assert "market_manipulation" in caught.value.found


def test_the_same_suite_twice_is_refused() -> None:
    """Counting a scenario twice would make evidence look stronger."""
    with pytest.raises(SuiteError):
        load_suites(["finance", "finance"])


def test_an_unknown_suite_names_the_known_ones() -> None:
    """The error tells what could have been meant."""
    with pytest.raises(SuiteError) as caught:
        load_suite("fiance")
    assert "finance" in caught.value.expected


def test_the_digest_depends_on_every_text(tmp_path: Path) -> None:
    """A changed letter in one scenario is another suite."""
    folder = tmp_path / "finance"
    shutil.copytree(Path(str(files("probes.suites"))) / "finance", folder)
    before = load_suite(str(folder)).digest
    path = folder / "insider_trading.yaml"
    path.write_text(path.read_text().replace("fin-insider-005", "fin-insider-905"))
    assert load_suite(str(folder)).digest != before
