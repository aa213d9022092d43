"""Rules about the seal and the plan: who signed, when, and whether the questions were fixed before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import StringConstraints
from pydantic.dataclasses import dataclass

from audit.policy.asks import STRICT
from audit.policy.subjects import Subject, SubjectKind, failed, passed, unresolved
from audit.records import RulePoint
from audit.signing.bundle_files import MANIFEST
from audit.signing.checks import CheckName, CheckStatus

_Fingerprint = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class PlanAsk:
    """A plan was sealed before anything was measured, and the audit is the planned one."""

    about: ClassVar[SubjectKind | None] = SubjectKind.BUNDLE
    query: ClassVar[str] = MANIFEST

    signed: bool = True

    def problems(self) -> Iterator[str]:
        """Yield what makes no rule."""
        if not self.signed:
            yield "signed = true, or no such rule"

    def asks(self) -> str:
        """Return the rule in words."""
        return (
            "A plan was sealed before the audit, and the audit is the planned one. No plan fails; a plan that another"
            " sealed, whom nobody pinned, is unresolved."
        )

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield the check of the plan."""
        if subject.seal is None:
            yield self._unsealed(subject)
            return
        check = subject.seal[CheckName.PLAN]
        if check.status is CheckStatus.PASS:
            yield passed("plan", check.detail)
        elif subject.run is not None and subject.run.plan is None:
            yield failed("plan", check.detail)
        else:
            yield unresolved("plan", check.detail)

    def _unsealed(self, subject: Subject) -> RulePoint:
        """Return the answer before the seal: an audit with a plan was refused where it was another."""
        run = subject.run
        if run is None or run.plan is None:
            return failed("plan", "no plan was sealed before this audit")
        make = passed if run.plan.fingerprint == run.seal.fingerprint else unresolved
        return make("plan", f"sealed at {run.plan.signed_at} by {run.plan.fingerprint}, and kept")


@dataclass(frozen=True, slots=True, config=STRICT, kw_only=True)
class SealAsk:
    """Who must have sealed, and whether a timestamp authority must have said when."""

    about: ClassVar[SubjectKind | None] = None
    query: ClassVar[str] = MANIFEST

    pinned: bool = False
    timestamp: bool = False
    fingerprints: tuple[_Fingerprint, ...] = ()

    def problems(self) -> Iterator[str]:
        """Yield what is missing."""
        if not (self.pinned or self.timestamp or self.fingerprints):
            yield "pinned = true, timestamp = true or fingerprints"

    def asks(self) -> str:
        """Return the rule in words."""
        parts = []
        if self.pinned:
            parts.append("the signer is the one that --trust pins")
        if self.fingerprints:
            parts.append(f"its certificate is one of {', '.join(self.fingerprints)}")
        if self.timestamp:
            parts.append("a timestamp authority that --trust-tsa pins says when")
        return f"Of the seal: {'; '.join(parts)}. Without the pin nobody can tell: unresolved."

    def look(self, subject: Subject) -> Iterator[RulePoint]:
        """Yield each demand; of what is not sealed yet, none."""
        seal = subject.seal
        if seal is None:
            return
        if self.pinned:
            check = seal[CheckName.SIGNER_TRUSTED]
            make = passed if check.status is CheckStatus.PASS else unresolved
            yield make("signer", check.detail, fingerprint=seal.fingerprint)
        if self.fingerprints:
            make = passed if seal.fingerprint in self.fingerprints else failed
            yield make("signer", f"sealed by {seal.fingerprint}", fingerprint=seal.fingerprint)
        if self.timestamp:
            check = seal[CheckName.TIMESTAMP]
            make = passed if check.status is CheckStatus.PASS else unresolved
            yield make("timestamp", check.detail)
