"""What a question and its answer are, in every export: plain words, figures, and how far it is answered.

Only what stands is called answered. A null result, an unresolved one, an exploratory one and everything under a failed
check with shuffled labels stay open: absence of evidence never reads as a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from audit.digests import Json
from audit.exports.source import line
from audit.records import Estimate
from reports.numbers import NO_INTERVAL, decimal


class Kind(StrEnum):
    """What a question is about; each has its own tests, and none supports a claim of another."""

    TOPIC = "topic"
    DISTINCTION = "distinction"
    INTERVENTION = "intervention"
    MIX = "mix"
    PAIRS = "pairs"


class Standing(StrEnum):
    """How far a question is answered. ANSWERED says that there is an answer, not that it is a good one."""

    ANSWERED = "answered"
    DOUBTFUL = "doubtful"
    OPEN = "open"
    NOT_PUT = "not put"


@dataclass(frozen=True, slots=True)
class Claim:
    """One result about a feature, or a pair of them, that stands on confirmation scenarios.

    Args:
        id: of the finding, as the report and `affidavit sql --finding` name it.
        said: in plain words, one line.
        figures: the numbers of the record behind it.
        query: what computes them from the evidence.
    """

    id: str
    said: str
    figures: Mapping[str, Json]
    query: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One question that the audit put, and what came of it.

    Args:
        kind: which question.
        part: id of the concept or mix.
        title: its title, one line.
        domain: of the concept or mix.
        sae: the instrument; empty where a mix was not measured through any.
        contrast: of an intervention, the contrast that its features are confirmed for; of others empty.
        asks: the question in plain words.
        standing: how far it is answered.
        short: the answer in a few words.
        said: the answer with its reason and its figures, one line.
        n_scenarios: on how many confirmation scenarios it rests; None where nothing was measured.
        figures: the numbers of the record behind it.
        query: what computes them from the evidence.
        estimates: those of the figures that measure the model, by the name of the measure.
        claims: what stands about single features and pairs, strongest first.
        not_listed: how many findings did not stand; findings.json has them with their reasons.
    """

    kind: Kind
    part: str
    title: str
    domain: str
    sae: str
    contrast: str
    asks: str
    standing: Standing
    short: str
    said: str
    n_scenarios: int | None
    figures: Mapping[str, Json]
    query: str
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    not_listed: int = 0

    @property
    def id(self) -> str:
        """Return its id, unique in an audit and the same in every audit that asks it."""
        parts = (self.kind.value, self.part, self.contrast, self.sae)
        return "/".join(line(part) for part in parts if part)

    @property
    def heading(self) -> str:
        """Return the question's name for a list of questions."""
        what = self.kind.value if not self.contrast else f"{self.kind.value} ({self.contrast})"
        return f"{self.title}: {what}"


def estimate_words(name: str, estimate: Estimate, places: int = 2) -> str:
    """Return an estimate with its interval for a sentence."""
    if estimate.low is None or estimate.high is None:
        return f"{name} {decimal(estimate.value, places)} ({NO_INTERVAL})"
    return (
        f"{name} {decimal(estimate.value, places)} (95% interval {decimal(estimate.low, places)} to"
        f" {decimal(estimate.high, places)})"
    )
