"""The typed form of a probe suite: frozen, validated, with unknown keys refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from audit.errors import SuiteError

SUITE_SCHEMA = "affidavit/suite/1"
CONCEPT_SCHEMA = "affidavit/concept/1"
MIX_SCHEMA = "affidavit/mix/1"
# The frame under which outcome questions stand in the evidence; no suite may use it.
OUTCOME_FRAME = "outcome"
# A two-sided sign-flip test over fewer scenarios cannot reach p = 0.05: 2 / 2^5 > 0.05.
FEWEST_IN_SPLIT = 6


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

    def ask(self, text: str) -> str:
        """Return the question about a text."""
        return self.template.replace("{text}", text)

    def place(self, text: str) -> tuple[int, int]:
        """Return where in the question the text stands: its first character and the one behind its last."""
        begin = self.template.index("{text}")
        return begin, begin + len(text)


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
    arms: Mapping[Arm, str]

    @property
    def texts(self) -> dict[str, str]:
        """Return the arms by name."""
        return {arm.value: text for arm, text in self.arms.items()}

    @property
    def measured_arms(self) -> tuple[Arm, ...]:
        """Return the arms that an audit runs: a lexical verdict is made on confirmation, so cue arms run there only."""
        cued = self.split is Split.CONFIRMATION
        return tuple(arm for arm in Arm if arm in self.arms and (cued or arm not in (Arm.CUE, Arm.CUE_FREE)))


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


class Clause(StrEnum):
    """One sentence of a mix: a concept, or what takes its place."""

    A = "a"
    A_FILLER = "a_filler"
    B = "b"
    B_FILLER = "b_filler"
    PLACEBO = "placebo"


class Cell(StrEnum):
    """A cell of the factorial: which of the two concepts is present; in the last two the placebo stands in for B."""

    NEITHER = "00"
    FIRST = "10"
    SECOND = "01"
    BOTH = "11"
    PLACEBO = "0p"
    FIRST_PLACEBO = "1p"

    @property
    def clauses(self) -> tuple[Clause, Clause]:
        """Return the clause that stands for A and the one that stands for B."""
        first = Clause.A if self.value[0] == "1" else Clause.A_FILLER
        return first, {"0": Clause.B_FILLER, "1": Clause.B, "p": Clause.PLACEBO}[self.value[1]]


class Order(StrEnum):
    """Which clause comes first: attention is causal, so only the second can be changed by the other."""

    A_FIRST = "ab"
    B_FIRST = "ba"


@dataclass(frozen=True, slots=True)
class MixScenario:
    """One situation in which two concepts meet: five sentences that make six prompts of one length in each order."""

    id: str
    split: Split
    clauses: Mapping[Clause, str]

    @property
    def texts(self) -> dict[str, str]:
        """Return the clauses by name."""
        return {clause.value: text for clause, text in self.clauses.items()}

    def text(self, cell: Cell, order: Order) -> str:
        """Return the prompt of a cell: its two sentences with a space between."""
        return " ".join(self._ordered(cell, order))

    def second_at(self, cell: Cell, order: Order) -> int:
        """Return where in the prompt of a cell the second sentence begins, in characters."""
        return len(self._ordered(cell, order)[0]) + 1

    def _ordered(self, cell: Cell, order: Order) -> tuple[str, str]:
        first, second = (self.clauses[clause] for clause in cell.clauses)
        return (first, second) if order is Order.A_FIRST else (second, first)


@dataclass(frozen=True, slots=True)
class Placebo:
    """A harmless third concept: whatever seems to interact with it is a false finding."""

    title: str
    definition: str


@dataclass(frozen=True, slots=True)
class Mix:
    """A 2x2 factorial of two concepts, with a placebo; `concepts` are the ids of A and B."""

    id: str
    title: str
    language: str
    concepts: tuple[str, str]
    placebo: Placebo
    why: str
    scenarios: tuple[MixScenario, ...]

    def in_split(self, split: Split) -> tuple[MixScenario, ...]:
        """Return the scenarios of one split, in file order."""
        return tuple(s for s in self.scenarios if s.split is split)


@dataclass(frozen=True, slots=True)
class Subset:
    """A named part of a suite, fixed in its file: the concepts and mixes that a short audit runs."""

    concepts: tuple[str, ...]
    mixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suite:
    """The concepts of one domain, with the frames that wrap them, and mixes of concepts.

    Args:
        limits: what a reader must know that this suite cannot show.
        salt: when given, the texts are withheld from bundles and reports; a digest of salt and text stands there.
        subsets: name -> the part that the name stands for.
        digest: over every file of the suite, whichever part of it runs.
        subset: the name of the part that this is; None is the whole.
    """

    id: str
    title: str
    domain: str
    version: str
    language: str
    frames: tuple[Frame, ...]
    concepts: tuple[Concept, ...]
    digest: str
    mixes: tuple[Mix, ...] = ()
    limits: tuple[str, ...] = ()
    salt: str | None = None
    subsets: Mapping[str, Subset] = field(default_factory=dict)
    subset: str | None = None

    @property
    def withheld(self) -> bool:
        """Return whether the suite's texts are kept out of bundles and reports."""
        return self.salt is not None

    @property
    def parts(self) -> tuple[Concept | Mix, ...]:
        """Return concepts, then mixes."""
        return (*self.concepts, *self.mixes)

    def part(self, name: str) -> Suite:
        """Return the suite reduced to a named subset.

        Raises:
            SuiteError: the suite has no subset of that name.
        """
        if name not in self.subsets:
            raise SuiteError(
                item=f"suite {self.id!r}: subset {name!r}",
                expected=f"one of {', '.join(sorted(self.subsets)) or 'none: it has no subsets'}",
                found="no such subset",
                hint="Name a subset that suite.yaml has under `subsets`, or run the whole suite.",
            )
        chosen = self.subsets[name]
        return replace(
            self,
            concepts=tuple(c for c in self.concepts if c.id in chosen.concepts),
            mixes=tuple(m for m in self.mixes if m.id in chosen.mixes),
            subset=name,
        )


def unknown_concepts(mixes: Collection[Mix], concepts: Collection[str]) -> dict[str, list[str]]:
    """Return mix id -> the concepts that it names and nobody defines."""
    found = {mix.id: [name for name in mix.concepts if name not in concepts] for mix in mixes}
    return {mix: names for mix, names in found.items() if names}
