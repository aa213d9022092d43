"""Equal records give equal bytes: whatever the order, the process or the hash seed; another record gives other ids."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.digests import digest_bytes
from audit.errors import EvidenceError
from audit.exports.formats import make_exports
from audit.exports.source import ExportSource
from audit.records import Findings
from tests.exports.records import SOURCES
from tests.reports.fixtures.audits import make_findings, make_run

Item = TypeVar("Item")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
AGAIN = """
from audit.exports.formats import make_exports
from audit.digests import digest_bytes
from tests.exports.records import SOURCES
print(*(digest_bytes(content) for content in make_exports(SOURCES["every case"]).values()))
"""


def reordered(findings: Findings, shuffle: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Findings:
    """Return the same findings with their rows in another order; the main SAE stays the first."""
    causal = findings.causal
    assert causal is not None
    return replace(
        findings,
        saes=(findings.saes[0], *shuffle(findings.saes[1:])),
        suites=shuffle(findings.suites),
        concepts=shuffle(
            tuple(
                replace(
                    concept,
                    fidelity=shuffle(concept.fidelity),
                    contrasts=shuffle(
                        tuple(replace(r, findings=shuffle(r.findings)) for r in concept.contrasts),
                    ),
                    untested=shuffle(concept.untested),
                )
                for concept in findings.concepts
            )
        ),
        mixes=shuffle(
            tuple(
                replace(
                    mix,
                    scans=shuffle(tuple(replace(scan, findings=shuffle(scan.findings)) for scan in mix.scans)),
                    pairs=shuffle(mix.pairs),
                    untested=shuffle(mix.untested),
                )
                for mix in findings.mixes
            )
        ),
        causal=replace(causal, effects=shuffle(causal.effects)),
        ladder=dict(shuffle(tuple(findings.ladder.items()))),
        not_tested=shuffle(findings.not_tested),
    )


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_the_order_of_rows_does_not_matter(data: st.DataObject) -> None:
    """Concepts, contrasts, findings, mixes, pairs, effects, suites and limits in any order."""

    def shuffle(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(data.draw(st.permutations(items))) if len(items) > 1 else items

    findings = make_findings()
    run = make_run(findings)
    one = make_exports(ExportSource(findings, run, None))
    assert make_exports(ExportSource(reordered(findings, shuffle), run, None)) == one


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    """No set, no clock, no random number decides anything."""
    expected = [digest_bytes(content) for content in make_exports(SOURCES["every case"]).values()]
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", AGAIN], cwd=root, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == expected


def test_ids_are_version_5_and_name_one_thing_each() -> None:
    """SARIF results, OSCAL objects and the parts of the bill of materials."""
    made = make_exports(SOURCES["every case"])
    run = json.loads(made["exports/report.sarif"])["runs"][0]
    results = [result["guid"] for result in run["results"]]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    fingerprints = [result["partialFingerprints"]["affidavitQuestion/v1"] for result in run["results"]]
    bom = json.loads(made["exports/ml-bom.cdx.json"])
    refs = [component["bom-ref"] for component in (*bom["components"], bom["metadata"]["component"])]
    oscal = json.loads(made["exports/oscal-assessment-results.json"])["assessment-results"]
    objects = [oscal, *oscal["results"], *oscal["back-matter"]["resources"], *oscal["metadata"]["parties"]]
    objects += [*oscal["results"][0]["observations"], *oscal["results"][0]["local-definitions"]["components"]]
    for ids in (results, refs, [thing["uuid"] for thing in objects]):
        assert len(ids) == len(set(ids)) > 3
        assert all(UUID.fullmatch(one) for one in ids)
    for names in (rules, fingerprints):
        assert len(names) == len(set(names)) > 3
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])


def test_another_run_has_other_ids_and_the_same_fingerprints() -> None:
    """A service that tracks results over audits knows the question again; documents are never taken for one."""
    source = SOURCES["every case"]
    model = replace(source.findings.model, digest="sha256:" + "0" * 64)
    later = replace(
        source,
        findings=replace(source.findings, model=model),
        run=replace(source.run, created_at="2026-12-01T00:00:00+00:00"),
    )
    logs = [json.loads(make_exports(one)["exports/report.sarif"])["runs"][0] for one in (source, later)]
    guids = [{result["guid"] for result in log["results"]} for log in logs]
    prints = [[result["partialFingerprints"] for result in log["results"]] for log in logs]
    assert guids[0].isdisjoint(guids[1])
    assert prints[0] == prints[1]
    boms = [json.loads(make_exports(one)["exports/ml-bom.cdx.json"])["serialNumber"] for one in (source, later)]
    assert boms[0] != boms[1]


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-02T03:04:05", "", "0001-01-01T00:00:00+14:00"])
def test_a_moment_that_is_none_is_named(moment: str) -> None:
    """One error with the field; nothing is made."""
    source = SOURCES["every case"]
    with pytest.raises(EvidenceError, match=r"run\.created_at"):
        make_exports(replace(source, run=replace(source.run, created_at=moment)))


def test_times_are_in_utc() -> None:
    """A run in another time zone is the same moment in every export."""
    source = SOURCES["every case"]
    there = replace(source, run=replace(source.run, created_at="2026-11-22T17:05:00+09:00"))
    made = make_exports(there)
    assert b"2026-11-22T08:05:00Z" in made["exports/summary.md"]
    assert b'timestamp="2026-11-22T08:05:00"' in made["exports/junit.xml"]
