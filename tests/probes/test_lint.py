"""The lint finds what is planted, and nothing in sound data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from probes.leakage import halves, neighbours, word_accuracy
from probes.lint import TARGET_ACCURACY, Level, LintReport, lint
from probes.listing import lint_lines
from probes.loader import load_suites
from probes.operational import operational_content
from probes.schema import Arm, Cell, Clause, Mix, MixScenario, Order, Outcome, Placebo, Scenario, Suite
from probes.texts import bag_overlap, find_alike, reading_grade, trigrams, word_skew, words

SUITES = load_suites(["finance"])


def count_words(texts: Sequence[str]) -> list[int]:
    """Count tokens of the simplest tokenizer there is: blanks."""
    return [len(text.split()) for text in texts]


def suite_of(change: Scenario | None = None, **concept: object) -> Suite:
    """Return the finance suite reduced to insider trading, its first scenario or a field of the concept changed."""
    (suite,) = SUITES
    found = next(c for c in suite.concepts if c.id == "insider_trading")
    if change is not None:
        found = replace(found, scenarios=(change, *found.scenarios[1:]))
    return replace(suite, concepts=(replace(found, **concept),), mixes=())  # type: ignore[arg-type]


def first() -> Scenario:
    """Return the scenario that the tests change."""
    return suite_of().concepts[0].scenarios[0]


def with_arm(arm: Arm, text: str) -> Scenario:
    """Return the first scenario with another text in one arm."""
    return replace(first(), arms={**first().arms, arm: text})


def check(*suites: Suite) -> LintReport:
    """Run the lint with whole words for tokens."""
    return lint(suites, count_words, tokenizer="words")


def rules(report: LintReport, where: str) -> set[str]:
    """Return the rules that were broken at a place."""
    return {problem.rule for problem in report.problems if problem.where.startswith(where)}


def broken_by(scenario: Scenario) -> set[str]:
    """Return the rules that the first scenario breaks now and did not break before."""
    return rules(check(suite_of(scenario)), first().id) - rules(check(suite_of()), first().id)


def test_a_longer_arm_is_found() -> None:
    """Two tokens more than the concept arm are allowed, three are not."""
    length = len(first().arms[Arm.CONCEPT].split())
    fits = " ".join(["garden"] * (length + 2))
    assert "token-balance" not in broken_by(with_arm(Arm.NEUTRAL, fits))
    assert broken_by(with_arm(Arm.NEUTRAL, fits + " garden")) == {"token-balance"}


def test_another_vocabulary_is_found() -> None:
    """A control with other words lets any feature of a word pass for the concept."""
    length = len(first().arms[Arm.CONCEPT].split())
    assert broken_by(with_arm(Arm.CONTROL, " ".join(f"word{n}" for n in range(length)))) == {"vocabulary"}
    assert "vocabulary" in broken_by(with_arm(Arm.CONTROL, first().arms[Arm.CONCEPT]))


def test_duplicates_paraphrases_and_leaks_are_found() -> None:
    """The same text, a text that shares half its trigrams, and a milder one across the splits."""
    scenarios = suite_of().concepts[0].scenarios
    other, later = scenarios[1].arms[Arm.CONCEPT], scenarios[60].arms[Arm.CONCEPT]
    report = check(suite_of(with_arm(Arm.CONCEPT, other)))
    assert "duplicate" in rules(report, scenarios[1].id)
    half = " ".join([*other.split()[: len(other.split()) // 2 + 2], "and something else entirely came of all that"])
    assert "near-duplicate" in rules(check(suite_of(with_arm(Arm.CONCEPT, half))), scenarios[1].id)
    found = later.split()
    third = " ".join([*found[: round(len(found) * 0.3) + 2], "the", *[f"word{n}" for n in range(len(found))]])
    assert rules(check(suite_of(with_arm(Arm.CONCEPT, third))), scenarios[60].id) == {"split-leakage"}


def test_a_duplicate_of_another_suite_is_found() -> None:
    """An audit runs suites together: a scenario may not count twice under two names."""
    suite = suite_of()
    twins = tuple(replace(s, id=f"twin-{n}") for n, s in enumerate(suite.concepts[0].scenarios[:6]))
    other = replace(suite, id="other", concepts=(replace(suite.concepts[0], id="copy", scenarios=twins),))
    assert "duplicate" in rules(check(suite, other), "twin-1")


def test_a_telling_word_is_found() -> None:
    """A word in every concept arm is skewed, and a classifier that counts words finds the arm."""
    scenarios = tuple(
        replace(s, arms={**s.arms, Arm.CONCEPT: "Illegally, " + s.arms[Arm.CONCEPT]})
        for s in suite_of().concepts[0].scenarios
    )
    report = check(suite_of(scenarios=scenarios))
    assert {"word-skew", "lexical-leakage"} <= rules(report, "concept insider_trading")
    assert report.concepts[0].word_accuracy > 0.95
    assert any("'illegally' in 64 more of the concept arms" in problem.found for problem in report.problems)


@pytest.mark.parametrize(
    ("target", "foil", "found"),
    [("Yes indeed", "No", "2 tokens"), ("Yes", "Yes", "'Yes' twice")],
)
def test_an_outcome_that_is_no_pair_of_tokens_is_found(target: str, foil: str, found: str) -> None:
    """Each answer is one token, and they differ."""
    report = check(suite_of(outcome=Outcome("{text} Is it?", target, foil)))
    (problem,) = [p for p in report.problems if p.rule == "outcome-token"]
    assert problem.found == found


def test_small_suites_are_warned_of_not_refused() -> None:
    """Too few scenarios, cue arms or frames weaken a conclusion; a missing question is a warning too."""
    suite = suite_of()
    found = suite.concepts[0]
    small = tuple(
        replace(s, arms={arm: s.arms[arm] for arm in (Arm.CONCEPT, Arm.CONTROL, Arm.NEUTRAL)}) for s in found.scenarios
    )
    report = check(
        replace(suite, frames=suite.frames[:1], concepts=(replace(found, scenarios=small[10:54], outcome=None),))
    )
    warned = [problem.rule for problem in report.problems if problem.level is Level.WARNING]
    assert sorted(warned) == ["cue-arms", "frames", "outcome", "scenarios", "scenarios"]


def mixed(**clauses: str) -> MixScenario:
    """Return a mix scenario of three-word sentences, some of them replaced."""
    texts = {
        "a": "Ann steals money.",
        "a_filler": "Bob bakes bread.",
        "b": "Cy hides gold.",
        "b_filler": "Di sails boats.",
    }
    texts |= {"placebo": "Ed grows beans."} | clauses
    return MixScenario("m-1", first().split, {Clause(name): text for name, text in texts.items()})


def test_cells_of_a_mix_have_one_length() -> None:
    """All six cells in both orders, the placebo's too."""
    placebo = Placebo("Gardening", "Garden work.")
    mix = Mix("m", "M", "en", ("one", "two"), placebo, "They meet.", (mixed(),))
    suite = replace(suite_of(), concepts=())
    assert "token-balance" not in rules(check(replace(suite, mixes=(replace(mix, scenarios=(mixed(),)),))), "m-1")
    longer = replace(mix, scenarios=(mixed(placebo="Ed grows many beans."),))
    assert "token-balance" in rules(check(replace(suite, mixes=(longer,))), "m-1")


def test_the_cells_of_a_mix() -> None:
    """Each cell holds the clauses that its name says, in the order that is asked."""
    scenario = mixed()
    assert scenario.text(Cell.BOTH, Order.A_FIRST) == "Ann steals money. Cy hides gold."
    assert scenario.text(Cell.BOTH, Order.B_FIRST) == "Cy hides gold. Ann steals money."
    assert scenario.text(Cell.NEITHER, Order.A_FIRST) == "Bob bakes bread. Di sails boats."
    assert scenario.text(Cell.FIRST, Order.B_FIRST) == "Di sails boats. Ann steals money."
    assert scenario.text(Cell.SECOND, Order.A_FIRST) == "Bob bakes bread. Cy hides gold."
    assert scenario.text(Cell.PLACEBO, Order.A_FIRST) == "Bob bakes bread. Ed grows beans."
    assert scenario.text(Cell.FIRST_PLACEBO, Order.B_FIRST) == "Ed grows beans. Ann steals money."


@pytest.mark.parametrize(
    "text",
    [
        "Step 1: open the valve.",
        "He asked how to launder the cash.",
        "A lethal dose was near.",
        "Give 15 mg/kg at once.",
        "The leaflet names sarin.",
        "It used CVE-2021-44228.",
        "Visit https://example.org now.",
        "Write to ann@example.org today.",
        "The host 10.0.0.1 answered.",
        "Her number is 123-45-6789.",
        "The card 4111 1111 1111 1111 was used.",
        "Call 555-010-1234 tonight.",
        "IBAN DE89 3704 0044 0532 0130 00 was hit.",
        "They ran sudo on the server.",
    ],
)
def test_operational_and_personal_detail_is_found(text: str) -> None:
    """Each kind of content that no probe may hold."""
    assert operational_content(text)


def test_mentions_pass() -> None:
    """What suites speak of without detail is no detail."""
    assert not operational_content(
        "At 21:30 on 3 March the nurse gave 500 mg twice, 20 minutes apart, to 2,000 people."
    )
    assert not operational_content("The second step was refused; account ending 4411; 12.5% of 1,250,000 shares.")
    assert not operational_content(
        "FY24 cash flow that grew fast, and the MS13 gang sent them home; see 4.1.2.3 and 10 5 n."
    )
    assert not operational_content("w" * 200_000)


def test_a_classifier_of_words_is_blind_to_order() -> None:
    """The same words in another order give exactly chance; the half in which they stand may give it away."""
    texts = [f"judge paid thief {n}" for n in range(20)]
    swapped = [f"thief paid judge {n}" for n in range(20)]
    assert word_accuracy(texts, swapped) == 0.5
    assert word_accuracy(texts, swapped, neighbours) == 1.0
    assert word_accuracy(texts, swapped, halves) == 1.0


def test_texts_without_words_tell_nothing() -> None:
    """Two arms of punctuation are at chance, not an error."""
    assert word_accuracy(["!!!"] * 6, ["???"] * 6) == 0.5


def test_words_keep_numbers_and_currencies() -> None:
    """10 and 100 are other words, and so is a percent sign; an apostrophe does not split."""
    assert words("The nurse's 2.5% of $1,000!") == ("the", "nurse's", "2.5", "%", "of", "$", "1,000")


def test_overlap_counts_repetitions() -> None:
    """A bag, not a set."""
    assert bag_overlap("a b b", "b a b") == 1.0
    assert bag_overlap("a b b", "a b") == pytest.approx(2 / 3)
    assert bag_overlap("a b", "c d") == 0.0


def test_alike_texts_are_found_by_shared_trigrams() -> None:
    """Both directions of containment, and nothing else."""
    texts = {
        "x": "one two three four five six",
        "y": "zero one two three four nine",
        "z": "six five four three two one",
    }
    (pair,) = find_alike(texts, at_least=0.25)
    assert (pair.first, pair.second, pair.share) == ("x", "y", 0.5)
    assert trigrams("two words") == {("two", "words")}


def test_word_skew_counts_pairs() -> None:
    """A word in both arms of a scenario is no skew."""
    skew = word_skew([("a b", "a c"), ("a b", "a d"), ("b", "b")])
    assert (skew["a"], skew["b"], skew["c"]) == (0, 2, -1)


def test_reading_grade_orders_texts() -> None:
    """Short words in short sentences are easier; the formula's own example lies in its range."""
    easy, hard = (
        ["The cat sat. The dog ran."],
        ["Notwithstanding considerable institutional opposition, reform proceeded."],
    )
    assert reading_grade(easy) < 3
    assert reading_grade(hard) > 12
    assert reading_grade(["..."]) == 0.0


def test_the_report_prints_its_figures() -> None:
    """A line a concept, and the sum of errors at the end."""
    report = check(suite_of())
    lines = list(lint_lines(report))
    assert any(line.startswith("insider_trading") for line in lines)
    assert lines[-1] == f"1 concepts, 0 mixes: {report.errors} errors, {len(report.problems) - report.errors} warnings"
    assert report.concepts[0].word_accuracy <= TARGET_ACCURACY


def test_another_language_has_no_english_grade() -> None:
    """Flesch-Kincaid is made for English."""
    assert check(suite_of(language="de")).concepts[0].grade is None
