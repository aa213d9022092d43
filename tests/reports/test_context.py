"""What the cover says of the seal: its level, and a timestamp that was asked for and is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.records import SEAL_LEVEL, Findings, RunInfo
from reports.context import build_view

MISSING = "sealed without the timestamp that the configuration asked for, as its authority did not answer"


@pytest.mark.parametrize(
    ("asked", "made", "said"),
    [
        (None, None, []),
        ("B-B", "B-B", []),
        ("B-T", "B-T", ["PAdES B-T, with a timestamp by another authority"]),
        ("B-LT", "B-LT", ["PAdES B-LT, with a timestamp by another authority"]),
        (
            "B-T",
            "B-B",
            [f"PAdES B-B: {MISSING}"],
        ),
    ],
)
def test_the_cover_names_the_level_of_the_seal(
    asked: str | None, made: str | None, said: list[str], findings: Findings, run_info: RunInfo
) -> None:
    """Nothing for a plain signature; a missing timestamp is told before anyone verifies."""
    config = {**run_info.config, **({} if asked is None else {"seal": {"level": asked}})}
    environment = {**run_info.environment, **({} if made is None else {SEAL_LEVEL: made})}
    view = build_view(findings, replace(run_info, config=config, environment=environment))
    assert [fact.text for fact in view.cover.seal if fact.name == "Seal level"] == said
