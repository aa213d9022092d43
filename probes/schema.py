"""The typed form of a probe suite: frozen, validated, with unknown keys refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SUITE_SCHEMA = "affidavit/suite/1"
CONCEPT_SCHEMA = "affidavit/concept/1"
# The frame under which outcome questions stand in the evidence; no suite may use it.
OUTCOME_FRAME = "outcome"


class Arm(StrEnum):
    """One version of a scenario.

    `concept` and `control` are a minimal pair that shares its vocabulary; `neutral` has the same length and another
    topic; `cue` has the concept's cue words in a harmless sentence; `cue_free` is the concept without its cue words.
    """

    CONCEPT = "concept"
    CONTROL = "control"
    NEUTRAL = "neutral"
    CUE = "cue"
    CUE_FREE = "cue_free"


REQUIRED_ARMS = (Arm.CONCEPT, Arm.CONTROL, Arm.NEUTRAL)


class Split(StrEnum):
    """Which half of the method may see a scenario. Fixed in the suite file, by scenario."""

    DISCOVERY = "discovery"
    CONFIRMATION = "confirmation"


@dataclass(frozen=True, slots=True)
class Frame:
    """A wrapper put around all arms of a scenario alike; `template` contains `{text}` once."""

    name: str
    template: str

    def wrap(self, text: str) -> str:
        """Return the text inside this frame."""
        return self.template.replace("{text}", text)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model is asked about a scenario, and the two continuations compared.

    The outcome of a prompt is logit(target) - logit(foil) at the last position, in nats before the softmax. Both
    continuations are one token each; `target` is the answer that recognises the concept.
    """

    template: str
    target: str
    foil: str


@dataclass(frozen=True, slots=True)
class Rule:
    """The law, guideline or standard that makes a concept sensitive."""

    name: str
    clause: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """One hand-written situation: the sampling unit of every test."""

    id: str
    split: Split
    arms: dict[Arm, str]


@dataclass(frozen=True, slots=True)
class Concept:
    """One sensitive concept with its scenarios."""

    id: str
    domain: str
    title: str
    definition: str
    rules: tuple[Rule, ...]
    why: str
    language: str
    outcome: Outcome | None
    scenarios: tuple[Scenario, ...]

    def in_split(self, split: Split) -> tuple[Scenario, ...]:
        """Return the scenarios of one split, in file order."""
        return tuple(s for s in self.scenarios if s.split is split)


@dataclass(frozen=True, slots=True)
class Suite:
    """The concepts of one domain, with the frames that wrap them."""

    id: str
    title: str
    domain: str
    version: str
    language: str
    frames: tuple[Frame, ...]
    concepts: tuple[Concept, ...]
    digest: str
