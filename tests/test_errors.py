"""An error that crosses to another process arrives whole."""

from __future__ import annotations

import pickle

import pytest

from audit.errors import AffidavitError, ConfigError, DigestMismatch, EnvironmentProblem, ExitCode


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, ExitCode.USAGE),
        (DigestMismatch, ExitCode.EVIDENCE_INVALID),
        (EnvironmentProblem, ExitCode.ENVIRONMENT),
    ],
)
def test_an_error_arrives_whole_in_another_process(kind: type[AffidavitError], code: ExitCode) -> None:
    """Without it a worker that lacks a library would end as a broken pool, and nobody would be told which."""
    sent = kind(item="Pango", expected="a library", found="none", hint="Install it.")
    arrived = pickle.loads(pickle.dumps(sent))  # noqa: S301 - what was just written
    assert type(arrived) is kind
    assert str(arrived) == str(sent)
    assert arrived.exit_code == code
