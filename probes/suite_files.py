"""The three kinds of files of a suite, as they are written: validated by pydantic, every violation with its line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from probes.schema import (
    CONCEPT_SCHEMA,
    FEWEST_IN_SPLIT,
    MIX_SCHEMA,
    OUTCOME_FRAME,
    SUITE_SCHEMA,
    Arm,
    Clause,
    Concept,
    Frame,
    Mix,
    MixScenario,
    Outcome,
    Placebo,
    Rule,
    Scenario,
    Split,
    Subset,
)
from probes.validated import validated
from probes.yaml_source import Document, Place


def _one_slot(template: str) -> str:
    if template.count("{text}") != 1:
        raise PydanticCustomError("slot", "a template with {{text}} exactly once")
    return template


def _free_frame_name(name: str) -> str:
    if name == OUTCOME_FRAME:
        raise PydanticCustomError("frame", "another name: that one marks the outcome questions in the evidence")
    return name


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# An id becomes a file name and a part of a query: no separators, no spaces.
_IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"
Identifier = Annotated[str, StringConstraints(pattern=_IDENTIFIER)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Template = Annotated[Text, AfterValidator(_one_slot)]
Half = Annotated[Split, Field(strict=False)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _FrameFile(_Written):
    name: Annotated[Identifier, AfterValidator(_free_frame_name)]
    template: Template


class _SubsetFile(_Written):
    concepts: list[Identifier] = []
    mixes: list[Identifier] = []


class SuiteFile(_Written):
    """A `suite.yaml`."""

    schema_: Literal["affidavit/suite/1"] = Field(alias="schema")
    id: Identifier
    title: Text
    domain: Identifier
    version: Text
    language: Language
    frames: Annotated[list[_FrameFile], Field(min_length=1)]
    concepts: list[Identifier]
    mixes: list[Identifier] = []
    limits: list[Text] = []
    withheld: bool = False
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32,}$")] | None = None
    subsets: dict[Identifier, _SubsetFile] = {}

    def frames_of(self) -> tuple[Frame, ...]:
        """Return the frames."""
        return tuple(Frame(f.name, f.template) for f in self.frames)

    def subsets_of(self) -> dict[str, Subset]:
        """Return the subsets by name."""
        return {name: Subset(tuple(s.concepts), tuple(s.mixes)) for name, s in self.subsets.items()}


class _RuleFile(_Written):
    name: Text
    clause: Text


class _OutcomeFile(_Written):
    template: Template
    target: Text
    foil: Text


class _ArmsFile(_Written):
    concept: Text
    control: Text
    neutral: Text
    cue: Text | None = None
    cue_free: Text | None = None


class _SampledFile(_Written):
    id: Identifier
    split: Half


class _ScenarioFile(_SampledFile):
    arms: _ArmsFile

    def scenario(self) -> Scenario:
        arms = {arm: getattr(self.arms, arm.value) for arm in Arm}
        return Scenario(self.id, self.split, {arm: text for arm, text in arms.items() if text is not None})


class _PartFile(_Written):
    id: Identifier
    title: Text
    language: Language


class ConceptFile(_PartFile):
    """A concept's file."""

    schema_: Literal["affidavit/concept/1"] = Field(alias="schema")
    domain: Identifier
    definition: Text
    rules: Annotated[list[_RuleFile], Field(min_length=1)]
    why: Text
    outcome: _OutcomeFile | None = None
    scenarios: Annotated[list[_ScenarioFile], Field(min_length=1)]

    def concept(self) -> Concept:
        """Return the concept."""
        asked = self.outcome
        return Concept(
            id=self.id,
            domain=self.domain,
            title=self.title,
            definition=self.definition,
            rules=tuple(Rule(r.name, r.clause) for r in self.rules),
            why=self.why,
            language=self.language,
            outcome=None if asked is None else Outcome(asked.template, asked.target, asked.foil),
            scenarios=tuple(s.scenario() for s in self.scenarios),
        )


class _PlaceboFile(_Written):
    title: Text
    definition: Text


class _MixScenarioFile(_SampledFile):
    a: Text
    a_filler: Text
    b: Text
    b_filler: Text
    placebo: Text

    def scenario(self) -> MixScenario:
        return MixScenario(self.id, self.split, {clause: getattr(self, clause.value) for clause in Clause})


class MixFile(_PartFile):
    """A mix's file."""

    schema_: Literal["affidavit/mix/1"] = Field(alias="schema")
    concepts: Annotated[list[Identifier], Field(min_length=2, max_length=2)]
    placebo: _PlaceboFile
    why: Text
    scenarios: Annotated[list[_MixScenarioFile], Field(min_length=1)]

    def mix(self) -> Mix:
        """Return the mix."""
        first, second = self.concepts
        return Mix(
            id=self.id,
            title=self.title,
            language=self.language,
            concepts=(first, second),
            placebo=Placebo(self.placebo.title, self.placebo.definition),
            why=self.why,
            scenarios=tuple(s.scenario() for s in self.scenarios),
        )


_SCHEMAS: dict[type[BaseModel], str] = {SuiteFile: SUITE_SCHEMA, ConceptFile: CONCEPT_SCHEMA, MixFile: MIX_SCHEMA}
FileKind = TypeVar("FileKind", SuiteFile, ConceptFile, MixFile)
PartKind = TypeVar("PartKind", ConceptFile, MixFile)


# The file of that name is the suite's own.
RESERVED = "suite"


def is_identifier(name: str) -> bool:
    """Tell whether a text can be the id of a concept, and the name of its file."""
    return re.fullmatch(_IDENTIFIER, name) is not None and name != RESERVED


def parse(document: Document, kind: type[FileKind]) -> FileKind | None:
    """Return the file's content, or None after adding every violation of its schema to the document."""
    found = validated(document, kind, schema=_SCHEMAS[kind])
    if found is None:
        return None
    if isinstance(found, SuiteFile):
        _check_suite(document, found)
    else:
        _check_scenarios(document, found.scenarios)
    return None if document.violations else found


def repeated(document: Document, names: Sequence[str], *, under: Place, key: str | None = None) -> None:
    """Refuse every name that stands more than once in a list, at each of its later places."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if name in seen:
            place = (*under, number) if key is None else (*under, number, key)
            first = document.line_of((*under, seen[name]))
            document.refuse(place, expected="an id that stands once", found=f"{name!r} again, first in line {first}")
        seen.setdefault(name, number)


def _check_suite(document: Document, found: SuiteFile) -> None:
    repeated(document, [frame.name for frame in found.frames], under=("frames",), key="name")
    repeated(document, found.concepts, under=("concepts",))
    repeated(document, found.mixes, under=("mixes",))
    if found.salt is not None and not found.withheld:
        document.refuse(
            ("salt",), expected="`withheld: true` beside a salt", found="a salt alone, which withholds nothing"
        )
    if found.withheld and found.salt is None:
        expected = (
            "a secret salt of at least 32 hex digits, because `withheld` is true: without it, texts can be guessed"
        )
        document.refuse(("withheld",), expected=expected, found="none")
    if not found.concepts and not found.mixes:
        document.refuse(("concepts",), expected="at least one concept or mix", found="an empty list")
    for name, subset in found.subsets.items():
        repeated(document, subset.concepts, under=("subsets", name, "concepts"))
        repeated(document, subset.mixes, under=("subsets", name, "mixes"))
        if not subset.concepts and not subset.mixes:
            document.refuse(("subsets", name), expected="at least one concept or mix", found="neither")
        for key, chosen, known in (
            ("concepts", subset.concepts, found.concepts),
            ("mixes", subset.mixes, found.mixes),
        ):
            for number, item in enumerate(chosen):
                if item not in known:
                    place = ("subsets", name, key, number)
                    document.refuse(place, expected=f"one of the suite's {key}", found=repr(item))


def _check_scenarios(document: Document, scenarios: Sequence[_SampledFile]) -> None:
    repeated(document, [scenario.id for scenario in scenarios], under=("scenarios",), key="id")
    counts = Counter(scenario.split for scenario in scenarios)
    for split in Split:
        if counts[split] < FEWEST_IN_SPLIT:
            document.refuse(
                ("scenarios",),
                expected=f"at least {FEWEST_IN_SPLIT} scenarios for {split.value}, the fewest that can reach p = 0.05",
                found=str(counts[split]),
            )
