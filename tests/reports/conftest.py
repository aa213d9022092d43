"""A synthetic record that holds every case the reports must print. Its values are test data and measure nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from audit.digests import canonical_json
from audit.records import Findings, RunInfo, as_json
from reports.context import build_view
from reports.view import ReportView
from tests.reports.fixtures.audits import make_findings, make_run
from tests.reports.fixtures.basics import SAE


@pytest.fixture(scope="session")
def findings() -> Findings:
    """The record with every case."""
    return make_findings()


@pytest.fixture(scope="session")
def findings_json(findings: Findings) -> bytes:
    """findings.json as the pipeline writes it."""
    return canonical_json(as_json(findings))


@pytest.fixture(scope="session")
def run_info(findings: Findings) -> RunInfo:
    """The run that made the record."""
    return make_run(findings)


@pytest.fixture(scope="session")
def view(findings: Findings, run_info: RunInfo) -> ReportView:
    """The view of the record."""
    return build_view(findings, run_info)


@pytest.fixture(scope="session")
def view_of() -> Callable[[Findings], ReportView]:
    """Build the view of a changed record."""
    return lambda changed: build_view(changed, make_run(changed))


@pytest.fixture(scope="session")
def lone_findings(findings: Findings) -> Findings:
    """The record of an audit with one SAE, which has no certificate, no mixes and no interventions."""
    main = replace(findings.saes[0], certificate=None, certificate_note="made for another model")
    return replace(
        findings,
        saes=(main,),
        concepts=tuple(
            replace(
                concept,
                fidelity=tuple(row for row in concept.fidelity if row.sae == SAE),
                contrasts=tuple(result for result in concept.contrasts if result.sae == SAE),
                untested=(),
            )
            for concept in findings.concepts
        ),
        cofiring=(),
        mixes=(),
        causal=None,
        cards=tuple(card for card in findings.cards if card.sae == SAE),
    )


@pytest.fixture(scope="session")
def lone_view(lone_findings: Findings) -> ReportView:
    """The view of the record with one SAE."""
    return build_view(lone_findings, make_run(lone_findings))
