"""The shipped suites keep the rules of method.md, and broken suites are refused with a reason."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

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
