"""What all causal tests of one audit share."""

from __future__ import annotations

from dataclasses import dataclass

from audit.budget import Budget
from audit.causes.benches import Bench, Ledger
from audit.causes.levels import LevelReader
from audit.config import AuditConfig
from audit.gathering import Subject
from audit.progress import Progress


@dataclass(frozen=True, slots=True)
class Work:
    """The audited model, the SAEs that admit interventions, what limits the tests and where their rows go."""

    subject: Subject
    benches: tuple[Bench, ...]
    config: AuditConfig
    reader: LevelReader
    budget: Budget
    ledger: Ledger
    progress: Progress

    @property
    def alpha(self) -> float:
        """Return the level of every test."""
        return self.config.analysis.alpha

    @property
    def first_id(self) -> int:
        """Return the number of the first prompt that is not the audit's own."""
        subject = self.subject
        own = [*subject.prompts, *(question for question, _ in subject.questions), *subject.mix_prompts]
        return 1 + max((prompt.id for prompt in own), default=-1)
