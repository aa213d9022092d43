"""A YAML document as a pydantic model: what breaks the model is a violation of the document, at its line."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from probes.yaml_source import Document, Place, shown

WrittenKind = TypeVar("WrittenKind", bound=BaseModel)

_KINDS = {
    "string_type": 'a text; quote words such as "Yes" and numbers, which YAML reads as other types',
    "list_type": "a list",
    "model_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "bool_type": "true or false",
}


def validated(document: Document, kind: type[WrittenKind], *, schema: str) -> WrittenKind | None:
    """Return the file's content, or None after adding every violation of its schema to the document."""
    data = document.data
    if isinstance(data, dict) and data.get("schema") not in (None, schema):
        document.refuse(("schema",), expected=schema, found=shown(data["schema"]))
        return None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _add(document, detail, schema)
        return None


def _add(document: Document, detail: ErrorDetails, schema: str) -> None:
    place: Place = tuple(detail["loc"])
    # The mark that pydantic puts behind a mapping's bad key is no place in the file.
    place = place[:-1] if place and place[-1] == "[key]" else place
    expected, found = _KINDS.get(detail["type"], detail["msg"]), shown(detail["input"])
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            expected, found = "this key", "nothing: the key is missing"
        case "extra_forbidden":
            expected, found = f"only keys of the schema {schema}", f"the unknown key {place[-1]!r}"
        case "string_too_short":
            expected, found = "a text that is not empty", "an empty one"
        case "string_too_long":
            expected, found = f"at most {limits['max_length']} characters", str(len(str(detail["input"])))
        case "string_pattern_mismatch":
            expected = f"a text of the form {limits['pattern']}"
        case "enum" | "literal_error":
            expected = str(limits["expected"])
        case "too_short" | "too_long":
            bound = f"at least {limits['min_length']}" if "min_length" in limits else f"at most {limits['max_length']}"
            expected, found = (
                f"{bound} of them",
                "none" if not limits["actual_length"] else str(limits["actual_length"]),
            )
    document.refuse(place, expected=expected, found=found)
