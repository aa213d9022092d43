"""Read the documents that model organisms are fine-tuned on: sentences with slots, filled from a seed.

An organism is a model with a known difference: it was fine-tuned on text about one subject. Whether a comparison finds
that subject says what the comparison is worth.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from audit.errors import SuiteError
from probes.suite_files import Identifier, Language, Text
from probes.validated import validated
from probes.violations import refusal
from probes.yaml_source import read_yaml

ORGANISM_SCHEMA = "affidavit/organism/1"
_SENTENCES_A_DOCUMENT = 5
_FEWEST_SENTENCES = 12
_FEWEST_VALUES = 4


@dataclass(frozen=True, slots=True)
class OrganismText:
    """What the documents of an organism are made of.

    Args:
        concept: the concept of a shipped suite that they are about; None for a subject that no suite asks about.
        digest: of the file.
    """

    id: str
    title: str
    concept: str | None
    slots: Mapping[str, tuple[str, ...]]
    sentences: tuple[str, ...]
    digest: str

    def documents(self, count: int, *, seed: int) -> tuple[str, ...]:
        """Return documents of five different sentences each; within one a slot keeps its value.

        Args:
            count: how many.
            seed: the same seed gives the same documents, and more of them begin with the fewer.
        """
        rng = random.Random(f"{self.digest}/{seed}")  # noqa: S311 - makes text, keeps no secret
        return tuple(self._document(rng) for _ in range(count))

    def _document(self, rng: random.Random) -> str:
        values = {slot: rng.choice(options) for slot, options in self.slots.items()}
        chosen = rng.sample(self.sentences, _SENTENCES_A_DOCUMENT)
        filled = (sentence.format_map(values) for sentence in chosen)
        return " ".join(text[0].upper() + text[1:] for text in filled)


class _OrganismFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_: Literal["affidavit/organism/1"] = Field(alias="schema")
    id: Identifier
    kind: Literal["concept", "neutral"]
    concept: Identifier | None = None
    title: Text
    language: Language
    slots: dict[Identifier, Annotated[list[Text], Field(min_length=_FEWEST_VALUES)]]
    sentences: Annotated[list[Text], Field(min_length=_FEWEST_SENTENCES)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "concept") is (self.concept is None):
            raise PydanticCustomError("concept", "a concept where the kind is concept, and only there")
        named = {slot for sentence in self.sentences for slot in _slots(sentence)}
        if wrong := sorted(named ^ set(self.slots)):
            raise PydanticCustomError(
                "slots", "each slot defined and used; {wrong} is not both", {"wrong": ", ".join(wrong)}
            )
        return self


def organism_names() -> tuple[str, ...]:
    """Return the names of the shipped organisms, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def shipped_organism(name: str) -> OrganismText:
    """Return a shipped organism's documents.

    Raises:
        SuiteError: there is none of that name, or its file breaks the schema.
    """
    if name not in organism_names():
        raise SuiteError(
            item=f"organism {name!r}",
            expected=f"one of {', '.join(organism_names())}",
            found="no such documents",
            hint="Name one of them.",
        )
    return load_organism(_folder() / f"{name}.yaml")


def load_organism(path: Path) -> OrganismText:
    """Read one file of documents.

    Raises:
        SuiteError: it breaks the schema; every violation is named with its line.
    """
    document = read_yaml(path)
    written = validated(document, _OrganismFile, schema=ORGANISM_SCHEMA)
    if written is None or document.violations:
        raise refusal(f"organism in {path}", document.violations)
    return OrganismText(
        id=written.id,
        title=written.title,
        concept=written.concept,
        slots={name: tuple(values) for name, values in written.slots.items()},
        sentences=tuple(written.sentences),
        digest=document.digest,
    )


def _folder() -> Path:
    return Path(str(files("probes.organisms")))


def _slots(sentence: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None]
    except ValueError as error:
        raise PydanticCustomError("braces", "sentences with {{slot}} in whole braces") from error
