"""Framework files as they are written, `templates/frameworks/*.yaml`: every violation with its file, line and field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from audit.errors import FrameworkError, SuiteError
from audit.frameworks.clauses import (
    FRAMEWORK_SCHEMA,
    Basis,
    Clause,
    EvidenceKind,
    EvidenceSelector,
    Framework,
    Part,
)
from audit.records import Contrast, Rung
from probes.suite_files import Identifier, Language, Text
from probes.validated import validated
from probes.yaml_source import Document, Place, read_yaml

FOLDER = "frameworks"
# What no measurement of a model's features can show.
CLAIMS = re.compile(
    r"\b(satisf\w*|compl(?:y|ies|ied|iant|iance)|conform\w*|fulfil\w*|meets?|certif(?:y|ies|ied)|guarantee\w*|ensures?"
    r"|proves?|approv\w*)\b",
    re.IGNORECASE,
)


def _no_claim(text: str) -> str:
    if (found := CLAIMS.search(text)) is not None:
        raise PydanticCustomError(
            "claim",
            "words that claim no {word}: a report supports a clause, it decides none",
            {"word": repr(found[0])},
        )
    return text


def _day(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("day", "a day in quotes, such as '2026-11-23'")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise PydanticCustomError("day", "a day such as '2026-11-23'") from error


# A row of a printed table: longer texts would turn the chapter into a book.
Short = Annotated[Text, StringConstraints(max_length=240)]
Day = Annotated[date, BeforeValidator(_day)]
Published = Annotated[str, StringConstraints(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _EvidenceFile(_Written):
    kind: Annotated[EvidenceKind, Field(strict=False)]
    rungs: Annotated[list[Annotated[Rung, Field(strict=False)]], Field(min_length=1)]
    contrasts: list[Annotated[Contrast, Field(strict=False)]] = []
    domains: list[Identifier] = []

    def selector(self) -> EvidenceSelector:
        return EvidenceSelector(self.kind, tuple(self.rungs), tuple(self.contrasts), tuple(self.domains))


class _SupportsFile(_Written):
    use: Annotated[Short, AfterValidator(_no_claim)]
    findings: list[_EvidenceFile] = []
    parts: list[Annotated[Part, Field(strict=False)]] = []


class _ClauseFile(_Written):
    id: Identifier
    number: Text
    title: Text
    basis: Annotated[Basis, Field(strict=False)]
    asks: Short
    supports: _SupportsFile
    does_not_cover: Short

    def clause(self) -> Clause:
        return Clause(
            id=self.id,
            number=self.number,
            title=self.title,
            basis=self.basis,
            asks=self.asks,
            use=self.supports.use,
            findings=tuple(each.selector() for each in self.supports.findings),
            parts=tuple(self.supports.parts),
            does_not_cover=self.does_not_cover,
        )


class FrameworkFile(_Written):
    """A file of `templates/frameworks`."""

    schema_: Literal["affidavit/framework/1"] = Field(alias="schema")
    id: Identifier
    name: Text
    edition: Text
    published: Published
    place: Text
    language: Language
    domains: list[Identifier]
    scope: Annotated[Text, StringConstraints(max_length=400)]
    checked: Day
    clauses: Annotated[list[_ClauseFile], Field(min_length=1)]

    def framework(self, document: Document) -> Framework:
        """Return the framework."""
        return Framework(
            id=self.id,
            name=self.name,
            edition=self.edition,
            published=self.published,
            place=self.place,
            language=self.language,
            domains=tuple(self.domains),
            scope=self.scope,
            checked=self.checked,
            clauses=tuple(each.clause() for each in self.clauses),
            file=Path(document.file).name,
            digest=document.digest,
        )


@cache
def shipped_frameworks() -> tuple[Framework, ...]:
    """Return the frameworks that ship with the package, those for every audit first, then by id.

    Raises:
        FrameworkError: a file breaks the schema.
    """
    folder = Path(str(files("templates"))) / FOLDER
    found = [read_framework(path) for path in sorted(folder.glob("*.yaml"))]
    if not found:
        raise FrameworkError(
            item=f"templates/{FOLDER}",
            expected="the framework files of the package",
            found="none",
            hint="Install the package again.",
        )
    return tuple(sorted(found, key=lambda framework: (framework.domains, framework.id)))


def read_framework(path: Path) -> Framework:
    """Return one framework.

    Raises:
        FrameworkError: the file cannot be read, or breaks the schema; all violations are listed, each with its line and
        field.
    """
    try:
        document = read_yaml(path)
    except SuiteError as error:
        raise FrameworkError(
            item=error.item,
            expected="a readable framework file, one YAML document",
            found=error.found,
            hint="Mend the file, or install the package again.",
        ) from error
    found = validated(document, FrameworkFile, schema=FRAMEWORK_SCHEMA)
    if found is not None:
        _check(document, found)
    if found is None or document.violations:
        raise FrameworkError(
            item=f"framework {path.name}",
            expected="a file of the form that docs/frameworks.md describes",
            found="\n            ".join(str(violation) for violation in sorted(document.violations)),
            hint="Mend each place, then load again.",
        )
    return found.framework(document)


def _check(document: Document, found: FrameworkFile) -> None:
    stem = Path(document.file).stem
    if found.id != stem:
        document.refuse(("id",), expected=f"{stem!r}, the name of the file", found=repr(found.id))
    if found.published > found.checked.isoformat():
        document.refuse(
            ("checked",),
            expected=f"a day not before {found.published}, when it was published",
            found=str(found.checked),
        )
    ids = [clause.id for clause in found.clauses]
    for number, clause in enumerate(found.clauses):
        place: Place = ("clauses", number)
        if clause.id in ids[:number]:
            document.refuse((*place, "id"), expected="an id that stands once", found=repr(clause.id))
        supports = clause.supports
        if not supports.findings and not supports.parts:
            document.refuse((*place, "supports"), expected="findings or parts that may be cited", found="neither")
        for index, evidence in enumerate(supports.findings):
            _check_evidence(document, evidence, (*place, "supports", "findings", index), found.domains)


def _check_evidence(document: Document, evidence: _EvidenceFile, place: Place, domains: Sequence[str]) -> None:
    allowed = evidence.kind.rungs
    if set(evidence.rungs) - set(allowed):
        document.refuse(
            (*place, "rungs"),
            expected=f"of {evidence.kind.value} only {' or '.join(rung.value for rung in allowed)}",
            found=", ".join(rung.value for rung in evidence.rungs),
        )
    if evidence.kind.has_contrasts is not bool(evidence.contrasts):
        document.refuse(
            (*place, "contrasts"),
            expected="topic, distinction or both" if evidence.kind.has_contrasts else f"none for {evidence.kind.value}",
            found=", ".join(contrast.value for contrast in evidence.contrasts) or "none",
        )
    if domains and set(evidence.domains) - set(domains):
        document.refuse(
            (*place, "domains"),
            expected=f"domains of the framework: {', '.join(domains)}",
            found=", ".join(evidence.domains),
        )
