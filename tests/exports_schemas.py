"""The official schemas of the exports, read from the repository: nothing is fetched."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import regex
from jsonschema import Draft4Validator, Draft7Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from lxml import etree
from referencing import Registry
from referencing.jsonschema import DRAFT7

SCHEMAS = Path(__file__).parent / "schemas"
SARIF = "sarif-2.1.0-errata01.schema.json"
OSCAL = "oscal-1.1.3-assessment-results.schema.json"
CYCLONEDX = "cyclonedx-1.6.schema.json"
JUNIT = "junit-10.xsd"
JSON_EXPORTS = {
    "exports/report.sarif": SARIF,
    "exports/oscal-assessment-results.json": OSCAL,
    "exports/ml-bom.cdx.json": CYCLONEDX,
}


def schema_bytes(name: str) -> bytes:
    """Return a schema as its publisher wrote it."""
    return gzip.decompress((SCHEMAS / f"{name}.gz").read_bytes())


def _pattern(_: Any, pattern: str, instance: Any, __: Mapping[str, Any]) -> Iterator[ValidationError]:
    # OSCAL writes its patterns with Unicode classes, which Python's own `re` does not know.
    if isinstance(instance, str) and not regex.search(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


@cache
def _validator(name: str) -> Any:
    kinds: dict[str, Callable[..., Any]] = {
        SARIF: extend(Draft4Validator, {"pattern": _pattern}),
        OSCAL: extend(Draft7Validator, {"pattern": _pattern}),
        CYCLONEDX: extend(Draft7Validator, {"pattern": _pattern}),
    }
    beside = ("jsf-0.82.schema.json", "spdx.schema.json")
    registry: Registry[Any] = Registry().with_resources(
        [
            (f"http://cyclonedx.org/schema/{other}", DRAFT7.create_resource(json.loads(schema_bytes(other))))
            for other in beside
        ]
    )
    return kinds[name](json.loads(schema_bytes(name)), registry=registry, format_checker=FormatChecker())


def json_problems(name: str, document: bytes) -> list[str]:
    """Return what a JSON schema finds wrong with a document, each with its place."""
    return [f"{error.json_path}: {error.message}"[:300] for error in _validator(name).iter_errors(json.loads(document))]


def xml_problems(document: bytes) -> list[str]:
    """Return what the schema of JUnit finds wrong with a document."""
    schema = etree.XMLSchema(etree.parse(BytesIO(schema_bytes(JUNIT))))
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    schema.validate(etree.parse(BytesIO(document), parser))
    return [str(error) for error in schema.error_log]
