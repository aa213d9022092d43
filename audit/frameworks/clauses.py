"""A framework and its clauses, as this project paraphrases them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from audit.records import Contrast, Rung

FRAMEWORK_SCHEMA = "affidavit/framework/1"


class EvidenceKind(StrEnum):
    """What a clause may cite of what was measured in the model."""

    FEATURES = "features"
    MIXES = "mixes"
    INTERVENTIONS = "interventions"
    PAIRS = "pairs"

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Return the rungs on which it may be cited: an intervention that is not causal showed no effect."""
        associations = (EvidenceKind.FEATURES, EvidenceKind.MIXES)
        return (Rung.CONFIRMED, Rung.CAUSAL) if self in associations else (Rung.CAUSAL,)

    @property
    def has_contrasts(self) -> bool:
        """Return whether it is of one of the two questions, topic or distinction."""
        return self in (EvidenceKind.FEATURES, EvidenceKind.INTERVENTIONS)


class Part(StrEnum):
    """What a clause may cite of the report itself."""

    SUITES = "suites"
    METHOD = "method"
    FIDELITY = "fidelity"
    CERTIFICATES = "certificates"
    BASELINES = "baselines"
    CONTROL_INSTRUMENTS = "control_instruments"
    SHUFFLED_LABELS = "shuffled_labels"
    POWER = "power"
    NOT_TESTED = "not_tested"
    LIMITATIONS = "limitations"
    REPRODUCIBILITY = "reproducibility"
    DIGESTS = "digests"
    SEAL = "seal"


class Basis(StrEnum):
    """What a paraphrase was checked against; the original is to be read in every case."""

    ORIGINAL = "original"
    REPRINT = "reprint"
    SUMMARY = "summary"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class EvidenceSelector:
    """Which findings a clause may cite. No contrasts: the kind has none. No domains: those of the framework."""

    kind: EvidenceKind
    rungs: tuple[Rung, ...]
    contrasts: tuple[Contrast, ...]
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause: what it asks in this project's words, what of a report may be cited, and what that leaves open.

    `use` says as what it may be cited. A clause without `findings` cites parts of the report only.
    """

    id: str
    number: str
    title: str
    basis: Basis
    asks: str
    use: str
    findings: tuple[EvidenceSelector, ...]
    parts: tuple[Part, ...]
    does_not_cover: str


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework in one edition. `domains` are those whose audit it concerns; none stands for every audit.

    `checked` is the day on which the paraphrases were last read against what each clause's `basis` names. `file` and
    `digest` identify the text that a report printed.
    """

    id: str
    name: str
    edition: str
    published: str
    place: str
    language: str
    domains: tuple[str, ...]
    scope: str
    checked: date
    clauses: tuple[Clause, ...]
    file: str
    digest: str
