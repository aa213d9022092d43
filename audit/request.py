"""What an audit is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from audit.config import AuditConfig
from audit.policy.files import Policy
from audit.records import Predecessor
from audit.signing.plan import Plan
from audit.signing.signer import Signer


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What to audit, where the bundle goes, who seals it, and when.

    Args:
        config: everything that decides the findings.
        out: the bundle's folder, which must not exist or be empty.
        signer: whose seal it gets.
        created_at: the moment of the run, with a time zone; an argument, never read from a clock inside.
        command: the command line as a reader may repeat it.
        plan: what was promised before; the audit is refused where it would be another one.
        previous: the audit before this one in a series.
        policy: what the findings are put to before they are sealed; the report prints the answer.
    """

    config: AuditConfig
    out: Path
    signer: Signer
    created_at: datetime
    command: str
    plan: Plan | None = None
    previous: Predecessor | None = None
    policy: Policy | None = None
