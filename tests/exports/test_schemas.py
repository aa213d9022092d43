"""Every export of every kind of record has the form that the published schema of its format asks for."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from audit.exports.formats import make_exports
from tests.exports.records import SOURCES
from tests.exports_schemas import (
    CYCLONEDX,
    JSON_EXPORTS,
    OSCAL,
    SARIF,
    SCHEMAS,
    json_problems,
    schema_bytes,
    xml_problems,
)

NAMES = {
    "exports/report.sarif",
    "exports/junit.xml",
    "exports/summary.md",
    "exports/oscal-assessment-results.json",
    "exports/ml-bom.cdx.json",
}


@pytest.mark.parametrize("case", SOURCES)
def test_every_export_keeps_its_schema(case: str) -> None:
    """SARIF 2.1.0, OSCAL 1.1.3, CycloneDX 1.6, the JUnit of Jenkins; of any record."""
    made = make_exports(SOURCES[case])
    assert set(made) == NAMES
    for name, schema in JSON_EXPORTS.items():
        assert json_problems(schema, made[name]) == []
    assert xml_problems(made["exports/junit.xml"]) == []


def _with(document: bytes, *path: Any, value: Any) -> bytes:
    parsed = json.loads(document)
    place = parsed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(parsed).encode()


def test_a_document_of_another_form_is_refused() -> None:
    """The validators can fail: one wrong value in each format, patterns and formats included."""
    made = make_exports(SOURCES["every case"])
    sarif, oscal, bom = (made[name] for name in JSON_EXPORTS)
    assert json_problems(SARIF, _with(sarif, "runs", 0, "results", 0, "kind", value="passed"))
    assert json_problems(SARIF, _with(sarif, "runs", 0, "results", 0, "guid", value="1"))
    assert json_problems(OSCAL, _with(oscal, "assessment-results", "uuid", value="1"))
    assert json_problems(OSCAL, _with(oscal, "assessment-results", "metadata", "title", value=7))
    prop = ("assessment-results", "metadata", "props", 0)
    assert json_problems(OSCAL, _with(oscal, *prop, "name", value="two words"))
    assert json_problems(OSCAL, _with(oscal, *prop, "value", value=" a line\nand another"))
    assert json_problems(CYCLONEDX, _with(bom, "serialNumber", value="1"))
    assert json_problems(CYCLONEDX, _with(bom, "metadata", "component", "hashes", 0, "content", value="1"))
    assert xml_problems(made["exports/junit.xml"].replace(b"<testcase ", b"<test ").replace(b"</testcase", b"</test"))


def test_the_schemas_are_the_published_ones() -> None:
    """Each file has the digest that SOURCES.txt names, and SOURCES.txt names each file."""
    told = (SCHEMAS / "SOURCES.txt").read_text()
    files = {path.name.removesuffix(".gz") for path in SCHEMAS.glob("*.gz")}
    assert {name for name in files if name not in told} == set()
    found = {hashlib.sha256(schema_bytes(name)).hexdigest() for name in files}
    assert found == set(re.findall(r"^  ([0-9a-f]{64})$", told, re.MULTILINE))
