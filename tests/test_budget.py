"""The budget of the causal tests: what its words mean, and when it ends."""

from __future__ import annotations

from math import inf

import pytest

from audit.budget import Budget, Limit, parse_limit
from audit.config import AuditConfig, parse_config
from audit.errors import ConfigError, ExitCode


@pytest.mark.parametrize(
    ("text", "forwards", "seconds"),
    [
        ("unlimited", inf, inf),
        ("none", 0.0, inf),
        ("40000 forwards", 40_000.0, inf),
        ("1 forward", 1.0, inf),
        ("10 minutes", inf, 600.0),
        ("0.5 minutes", inf, 30.0),
    ],
)
def test_words_have_one_meaning(text: str, forwards: float, seconds: float) -> None:
    """A number of forward-equivalents, a time, everything or nothing."""
    assert parse_limit(text, item="causal.budget") == Limit(text, forwards, seconds)


@pytest.mark.parametrize(
    "text",
    [
        "", "much", "10", "10 seconds", "0 forwards", "0.0 minutes", "-5 forwards", "1e9 forwards", "5  minutes",
        "Unlimited", "nan minutes", "40,000 forwards", "10 minutes ",
    ],
)  # fmt: skip
def test_other_words_are_refused_when_the_configuration_is_read(text: str) -> None:
    """The error names the key and quotes the words; it is a usage error."""
    with pytest.raises(ConfigError) as caught:
        parse_config({"causal": {"budget": text}}, origin="audit.toml")
    assert caught.value.item == "audit.toml: causal.budget"
    assert caught.value.found == repr(text)
    assert caught.value.exit_code is ExitCode.USAGE


def test_the_default_is_unlimited() -> None:
    """Nothing is left out unless somebody says so."""
    assert parse_limit(AuditConfig().causal.budget, item="t").forwards == inf


def test_forwards_end_it_whatever_the_time() -> None:
    """The sum over all meters counts; the limit itself is spent."""
    spent = [3.0, 4.0]
    budget = Budget(parse_limit("8 forwards", item="t"), meters=[lambda: spent[0], lambda: spent[1]], clock=lambda: 1e9)
    assert budget.may_begin()
    assert budget.spent == 7.0
    spent[1] = 5.0
    assert not budget.may_begin()
    assert budget.reason == "the budget of 8 forwards was spent"


def test_time_ends_it_whatever_the_work() -> None:
    """Time runs from the moment at which the budget is made."""
    now = [100.0]
    budget = Budget(parse_limit("2 minutes", item="t"), meters=[lambda: 1e12], clock=lambda: now[0])
    now[0] = 219.0
    assert budget.may_begin()
    now[0] = 220.0
    assert not budget.may_begin()


def test_none_begins_nothing_and_says_so() -> None:
    """Not one unit of work, and the reason is the setting, not exhaustion."""
    budget = Budget(parse_limit("none", item="t"), meters=[lambda: 0.0], clock=lambda: 0.0)
    assert not budget.may_begin()
    assert "none" in budget.reason
