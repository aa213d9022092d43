"""The shipped suites keep the rules of method.md, and broken suites are refused with a reason."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit.errors import SuiteError
from probes.loader import builtin_names, load_suite, load_suites
from probes.schema import Arm, Concept, Split

SHIPPED = [concept for suite in load_suites(builtin_names()) for concept in suite.concepts]


def words(text: str) -> Counter[str]:
    """Return the bag of words of a text."""
    return Counter(re.findall(r"[a-z0-9'%$]+", text.lower()))


def test_each_domain_has_a_suite() -> None:
    """Healthcare, finance and defense ship."""
    assert builtin_names() == ("defense", "finance", "healthcare")


@pytest.mark.parametrize("concept", SHIPPED, ids=lambda c: c.id)
def test_scenarios_and_splits(concept: Concept) -> None:
    """64 scenarios, 40 for discovery and 24 for confirmation, cue arms on at least 24."""
    assert len(concept.in_split(Split.DISCOVERY)) == 40
    assert len(concept.in_split(Split.CONFIRMATION)) == 24
    assert sum(Arm.CUE in s.arms and Arm.CUE_FREE in s.arms for s in concept.scenarios) >= 24
    assert concept.outcome is not None
    assert concept.rules


@pytest.mark.parametrize("concept", SHIPPED, ids=lambda c: c.id)
def test_minimal_pairs_share_their_vocabulary(concept: Concept) -> None:
    """Concept and control differ, and no word tells them apart over the file."""
    skew: Counter[str] = Counter()
    for scenario in concept.scenarios:
        arm, control = scenario.arms[Arm.CONCEPT], scenario.arms[Arm.CONTROL]
        assert arm != control
        bag, other = words(arm), words(control)
        assert (bag & other).total() / (bag | other).total() >= 0.6, scenario.id
        skew.update(bag)
        skew.subtract(other)
    assert max(abs(count) for count in skew.values()) <= 3


@pytest.mark.parametrize("concept", SHIPPED, ids=lambda c: c.id)
def test_no_two_scenarios_are_paraphrases(concept: Concept) -> None:
    """No two scenarios share more than about a third of their word trigrams, across the split above all."""
    grams = {}
    for scenario in concept.scenarios:
        tokens = re.findall(r"[a-z0-9'%$]+", scenario.arms[Arm.CONCEPT].lower())
        grams[scenario.id] = set(zip(tokens, tokens[1:], tokens[2:], strict=False))
    ids = sorted(grams)
    for n, first in enumerate(ids):
        for second in ids[:n]:
            shared = len(grams[first] & grams[second]) / min(len(grams[first]), len(grams[second]))
            assert shared <= 0.35, (first, second)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of a shipped suite that a test may break."""
    target = tmp_path / "finance"
    shutil.copytree(Path(str(files("probes.suites"))) / "finance", target)
    return target


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a YAML file."""
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data))


def duplicate_scenario(data: Any) -> None:
    """Give two scenarios one id."""
    data["scenarios"][1]["id"] = data["scenarios"][0]["id"]


def drop_control(data: Any) -> None:
    """Remove a required arm."""
    del data["scenarios"][3]["arms"]["control"]


def misspell_split(data: Any) -> None:
    """Name a split that does not exist."""
    data["scenarios"][3]["split"] = "test"


def unknown_key(data: Any) -> None:
    """Add a key that the schema does not have."""
    data["treshold"] = 1


def unquoted_answer(data: Any) -> None:
    """Write Yes without quotes, which YAML reads as a truth value."""
    data["outcome"]["target"] = True


def no_scenarios(data: Any) -> None:
    """Empty the concept."""
    data["scenarios"] = []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (duplicate_scenario, "repeated: fin-insider-001"),
        (drop_control, "missing ['control']"),
        (misspell_split, "'test'"),
        (unknown_key, "unknown ['treshold']"),
        (unquoted_answer, "True"),
        (no_scenarios, "none"),
    ],
)
def test_a_broken_concept_is_refused(folder: Path, change: Callable[[Any], None], found: str) -> None:
    """Each defect has one error that names it."""
    edit(folder / "insider_trading.yaml", change)
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert found in caught.value.found


def test_an_empty_suite_is_refused(folder: Path) -> None:
    """A suite without concepts can audit nothing and must not look like a pass."""
    edit(folder / "suite.yaml", lambda data: data.update(concepts=[]))
    with pytest.raises(SuiteError, match="suite"):
        load_suite(str(folder))


def test_a_key_given_twice_is_refused(folder: Path) -> None:
    """YAML would keep the last one silently."""
    path = folder / "suite.yaml"
    path.write_text(path.read_text() + "\nid: other\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(str(folder))
    assert "key given twice" in caught.value.found


def test_the_same_suite_twice_is_refused() -> None:
    """Counting a scenario twice would make evidence look stronger."""
    with pytest.raises(SuiteError):
        load_suites(["finance", "finance"])


def test_an_unknown_suite_names_the_known_ones() -> None:
    """The error tells what could have been meant."""
    with pytest.raises(SuiteError) as caught:
        load_suite("fiance")
    assert "finance" in caught.value.expected


def test_the_digest_depends_on_every_text(folder: Path) -> None:
    """A changed letter in one scenario is another suite."""
    before = load_suite(str(folder)).digest
    edit(folder / "insider_trading.yaml", lambda d: d["scenarios"][5]["arms"].update(neutral="Another sentence."))
    assert load_suite(str(folder)).digest != before
