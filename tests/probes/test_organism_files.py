"""The documents of the organisms: of their form, five of each kind, and without a line of the suites."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from audit.errors import SuiteError
from probes.loader import builtin_names, load_suites
from probes.organism_files import load_organism, organism_names, shipped_organism
from probes.texts import words

# Three sentences of ordinary English seldom share so many words in a row by chance.
_LONGEST_SHARED = 6
DOCUMENTS = 400


def n_grams(text: str, length: int) -> set[tuple[str, ...]]:
    """Return the runs of so many words."""
    found = words(text)
    return set(zip(*(found[start:] for start in range(length)), strict=False))


@pytest.fixture(scope="module")
def scenario_runs() -> set[tuple[str, ...]]:
    """Return every run of words in a text of any scenario, or a clause of any mix, of any shipped suite."""
    suites = load_suites(builtin_names())
    parts = [part for suite in suites for part in suite.parts]
    texts = [text for part in parts for scenario in part.scenarios for text in scenario.texts.values()]
    assert len(texts) > 5000
    return {run for text in texts for run in n_grams(text, _LONGEST_SHARED)}


def test_fifteen_concepts_of_three_domains_and_five_other_subjects() -> None:
    """Each concept is one of a shipped suite; a neutral subject names none."""
    shipped = [shipped_organism(name) for name in organism_names()]
    domains = {concept.id: suite.id for suite in load_suites(builtin_names()) for concept in suite.concepts}
    planted = [text.concept for text in shipped if text.concept is not None]
    assert len(planted) == len(set(planted)) == 15
    assert {domains[concept] for concept in planted} == {"healthcare", "finance", "defense"}
    assert len(shipped) == 20
    assert [text.id for text in shipped] == list(organism_names())


@pytest.mark.parametrize("name", organism_names())
def test_no_document_holds_a_line_of_a_scenario(name: str, scenario_runs: set[tuple[str, ...]]) -> None:
    """No six words in a row are those of a probe: what an organism learns is the subject, not the questions."""
    documents = shipped_organism(name).documents(DOCUMENTS, seed=1)
    assert not [run for document in documents for run in n_grams(document, _LONGEST_SHARED) if run in scenario_runs]


def test_a_scenario_put_into_documents_would_be_seen(scenario_runs: set[tuple[str, ...]]) -> None:
    """The check above can fail."""
    text = load_suites(("finance",))[0].concepts[0].scenarios[0].texts["concept"]
    assert n_grams(f"It was told that {text}", _LONGEST_SHARED) & scenario_runs


@pytest.mark.parametrize("name", organism_names())
def test_documents_follow_the_seed(name: str) -> None:
    """The same seed gives the same documents, more of them begin alike, another seed gives others; no slot is left."""
    text = shipped_organism(name)
    first = text.documents(50, seed=1)
    assert text.documents(60, seed=1)[:50] == first
    assert text.documents(50, seed=2) != first
    assert len(set(first)) == 50
    assert not [document for document in first if "{" in document or "}" in document]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"concept": "dosing_error"}, "a concept where the kind is concept"),
        ({"sentences": ["One."]}, "at least 12"),
        ({"sentences": [f"{{other}} {n}" for n in range(12)]}, "other"),
        ({"sentences": ["{open"] * 12}, "whole braces"),
        ({"extra": 1}, "unknown key"),
        ({"schema": "affidavit/organism/9"}, "affidavit/organism/1"),
        ({"slots": {"unused": ["a", "b", "c", "d"]}}, "unused"),
    ],
)
def test_a_file_that_breaks_the_schema_is_refused(change: dict[str, object], named: str, tmp_path: Path) -> None:
    """One error, which names the file and what is wrong with it."""
    content: dict[str, object] = {
        "schema": "affidavit/organism/1", "id": "own", "kind": "neutral", "title": "Own", "language": "en",
        "slots": {}, "sentences": [f"Sentence {word}." for word in "abcdefghijkl"],
    }  # fmt: skip
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    assert load_organism(path).concept is None
    path.write_text(yaml.safe_dump(content | change))
    with pytest.raises(SuiteError) as error:
        load_organism(path)
    assert named in str(error.value)
    assert "own.yaml" in str(error.value)


def test_an_unknown_organism_is_named() -> None:
    """The error lists what there is."""
    with pytest.raises(SuiteError, match="gardening"):
        shipped_organism("../suites/suite")
