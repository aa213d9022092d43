"""A small sealed bundle, and how the tests put one rule to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from audit.gate import gate
from audit.policy.files import Policy, read_policy
from audit.records import GateVerdict, RuleVerdict
from audit.signing.attested import VerifyResult
from audit.signing.keys import Signer
from audit.signing.verify import verify_bundle
from tests.redaction_making import write_bundle

TODAY = date(2026, 3, 1)
HEAD = 'schema = "affidavit/policy/1"\ntitle = "Test"\n'


@pytest.fixture(scope="package")
def sealed(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """Return a small sealed bundle; tests must not change it."""
    folder = tmp_path_factory.mktemp("sealed") / "bundle"
    folder.mkdir()
    write_bundle(folder, signer)
    return folder


@pytest.fixture(scope="package")
def seal(sealed: Path, certificate: Path) -> VerifyResult:
    """Return every check of the bundle, its signer pinned."""
    result = verify_bundle(sealed, trusted=certificate)
    assert result.trusted
    return result


def rule(kind: str, *, more: str = "") -> str:
    """Return a policy of one rule."""
    return f'{HEAD}{more}[[rule]]\nid = "r"\nwhy = "because"\n{kind}\n'


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Policy]:
    """Return what reads a policy from its text."""

    def read(text: str) -> Policy:
        path = tmp_path / "policy.toml"
        path.write_text(text, encoding="utf-8")
        return read_policy(path, today=TODAY)

    return read


Judge = Callable[[str], GateVerdict]


@pytest.fixture
def judged(sealed: Path, seal: VerifyResult, policy: Callable[[str], Policy]) -> Judge:
    """Return what puts the text of a policy to the bundle."""
    return lambda text: gate(sealed, policy(text), seal, today=TODAY)


@pytest.fixture
def one(judged: Judge) -> Callable[[str], RuleVerdict]:
    """Return what puts one kind of rule to the bundle."""
    return lambda kind: judged(rule(kind)).rules[0]
