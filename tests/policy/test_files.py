"""A policy file is read whole or refused whole, with every violation, its line and its key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from audit.errors import ConfigError
from audit.policy.files import Baseline, Policy, read_policy
from tests.policy.conftest import HEAD, rule

GOOD = rule("control = { }")
BAD = [
    ("", "schema: expected this key"),
    ("schema = ", "Invalid value"),
    (HEAD, "rule: expected this key"),
    (f"{HEAD}rule = []", "at least 1 item"),
    (GOOD.replace("policy/1", "policy/9"), "affidavit/policy/1"),
    (GOOD + "sevrity = 'error'\n", "an unknown key"),
    (f'baselin = "optional"\n{GOOD}', "expected one of the keys baseline"),
    (GOOD.replace('id = "r"', 'id = "R r"'), "rule[0].id"),
    (GOOD.replace('why = "because"', 'why = " "'), "rule[0].why"),
    (GOOD.replace("[[rule]]", '[[rule]]\nseverity = "fatal"'), "'error' or 'warning'"),
    (GOOD.replace("[[rule]]", '[[rule]]\nclause = "hipaa/nothing"'), "a clause of hipaa among"),
    (GOOD.replace("[[rule]]", '[[rule]]\nclause = "nothing/nothing"'), "a framework among"),
    (GOOD + GOOD.removeprefix(HEAD), "an id that stands once"),
    (rule(""), "exactly one kind"),
    (rule("control = { }\nplan = { }"), "found control and plan"),
    (rule("fidelity = { }"), "colour_at_least, fvu_at_most or delta_ce_at_most"),
    (rule("fidelity = { fvu_at_most = 1.5 }"), "less than or equal to 1"),
    (rule("fidelity = { fvu_at_most = -0.1 }"), "greater than or equal to 0"),
    (rule("fidelity = { fvu_at_most = nan }"), "finite"),
    (rule('fidelity = { fvu_at_most = "0.5" }'), "fvu_at_most"),
    (rule("fidelity = { fvu_at_most = true }"), "fvu_at_most"),
    (rule('fidelity = { colour_at_least = "blue" }'), "'green', 'amber' or 'red'"),
    (rule("fidelity = { fvu_at_most = 0.5, concepts = 'all' }"), "concepts"),
    (rule('rung = { contrasts = [], at_least = "confirmed" }'), "contrasts"),
    (rule('rung = { contrasts = ["topic"], at_least = "unresolved" }'), "which every audit reaches"),
    (rule('rung = { contrasts = ["topic"], at_least = "confirmed", at_most = "observed" }'), "not above at_most"),
    (rule('rung = { contrasts = ["topic"], at_least = "causal" }'), "use effects"),
    (rule('reading = { contrasts = ["topic"], allowed = ["unresolved"] }'), "never a pass"),
    (rule("effects = { }"), "tested_at_least"),
    (rule("effects = { causal_at_most = -1 }"), "causal_at_most"),
    (rule("effects = { causal_at_most = 1.5 }"), "causal_at_most"),
    (rule('interactions = { of = "pairs", confirmed_at_most = 0, words = ["emergent"] }'), "redundancy, synergy"),
    (rule("coverage = { }"), "concepts, mixes, suites or frameworks"),
    (rule('coverage = { frameworks = ["gdpr"] }'), "a framework among"),
    (rule("plan = { signed = false }"), "no such rule"),
    (rule("seal = { }"), "pinned = true"),
    (rule('seal = { fingerprints = ["me"] }'), "fingerprints"),
    (rule("difference = { }"), "changed_at_most"),
    (rule('sql = { select = "" }'), "select"),
    (rule('sql = { select = "SELECT 1", at_least = 2, at_most = 1 }'), "at_least not above at_most"),
    (rule("control = { }", more="sql_limit_s = 0\n"), "sql_limit_s"),
    (GOOD + '[[waiver]]\nrule = "x"\nreason = "r"\nowner = "o"\nexpires = 2026-12-31\n', "found no such id"),
    (GOOD + '[[waiver]]\nrule = "r"\nreason = "r"\nowner = "o"\nexpires = 2026-02-28\n', "it expired on 2026-02-28"),
    (GOOD + '[[waiver]]\nrule = "r"\nreason = "r"\nexpires = 2026-12-31\n', "waiver[0].owner"),
    (GOOD + '[[waiver]]\nrule = "r"\nreason = "r"\nowner = "o"\nexpires = "soon"\n', "waiver[0].expires"),
    (GOOD + 2 * '[[waiver]]\nrule = "r"\nreason = "r"\nowner = "o"\nexpires = 2026-12-31\n', "one waiver a rule"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=range(len(BAD)))
def test_a_violation_is_named(text: str, said: str, policy: Callable[[str], Policy]) -> None:
    """One error says what was expected and where; nothing is guessed or ignored."""
    assert policy(GOOD).rules
    with pytest.raises(ConfigError) as refused:
        policy(text)
    assert said in str(refused.value)
    assert refused.value.exit_code == 2


def test_every_violation_stands_in_one_error_with_its_line(policy: Callable[[str], Policy]) -> None:
    """The second of two broken rules is found at its own line."""
    first = '[[rule]]\nid = "a"\nwhy = "w"\ncontrol = { rat = 1 }\n\n'
    broken = f'{HEAD}{first}[[rule]]\nid = "b"\n[rule.plan]\nsined = true\n'
    with pytest.raises(ConfigError) as refused:
        policy(broken)
    told = str(refused.value)
    for line, key in ((6, "rat"), (8, "why"), (11, "sined")):
        assert f"policy.toml:{line}: " in told
        assert key in told


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * (2 << 20)], ids=["not text", "too long"])
def test_what_is_no_policy_is_refused(data: bytes, tmp_path: Path) -> None:
    """Bytes that are no text, and files of any size."""
    path = tmp_path / "p.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        read_policy(path, today=date(2026, 1, 1))
    with pytest.raises(ConfigError, match="absent"):
        read_policy(tmp_path / "absent", today=date(2026, 1, 1))


def test_a_waiver_holds_through_its_last_day(tmp_path: Path) -> None:
    """It is refused on the day after."""
    path = tmp_path / "p.toml"
    path.write_text(GOOD + '[[waiver]]\nrule = "r"\nreason = "r"\nowner = "o"\nexpires = 2026-05-05\n')
    read = read_policy(path, today=date(2026, 5, 5))
    assert read.waiver_of(read.rules[0]) is not None
    with pytest.raises(ConfigError, match="1 violation"):
        read_policy(path, today=date(2026, 5, 6))


def test_rules_about_differences_ask_for_a_base(policy: Callable[[str], Policy]) -> None:
    """Unless the policy says otherwise."""
    text = rule("difference = { changed_at_most = 0 }")
    assert policy(text).baseline is Baseline.REQUIRED
    assert policy(text.replace("title", 'baseline = "optional"\ntitle')).baseline is Baseline.OPTIONAL
    assert policy(GOOD).baseline is None
