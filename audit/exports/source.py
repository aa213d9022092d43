"""What an export is made from: the record, and ids that follow from it alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from audit.digests import canonical_json, digest_json
from audit.errors import EvidenceError
from audit.records import Findings, Rung, RunInfo, Withheld, as_json
from reports.numbers import visible

# Names of this project in formats that ask for a namespace; nothing is fetched from there.
NAMESPACE = "https://affidavit.dev/exports/v1"
_OPEN = "A question without an answer is open, never passed."
NO_POLICY = (
    "No policy was applied: nothing here says whether the model may be used, or that it complies with anything. "
    + _OPEN
)
_IDS = uuid5(NAMESPACE_URL, NAMESPACE)


@dataclass(frozen=True, slots=True)
class ExportSource:
    """The record of a sealed bundle, or of a redacted copy.

    Args:
        findings: the result; its order does not matter, except that the first SAE is the main one.
        run: the circumstances of the run; its `findings_digest` is of findings.json beside the exports.
        evidence: `sha256:<hex>` of evidence.duckdb beside the exports; None where it is not known.
        withheld: what a redacted copy withholds; None for a bundle.
    """

    findings: Findings
    run: RunInfo
    evidence: str | None
    withheld: Withheld | None = None

    @property
    def policy(self) -> str:
        """Return what is said of a policy; the outcomes of this file are the audit's, never the policy's."""
        verdict = self.run.policy
        if verdict is None:
            return NO_POLICY
        return (
            f"A policy was put to the findings before they were sealed: {line(verdict.policy)}"
            f" ({verdict.policy_digest}), {verdict.conclusion}. Its rules stand in manifest.json and in the report, not"
            f" here; `affidavit gate` puts one to the sealed bundle. {_OPEN}"
        )

    @property
    def created_at(self) -> datetime:
        """Return the moment of the run, in UTC.

        Raises:
            EvidenceError: the record's moment is none, or has no time zone.
        """
        try:
            told = datetime.fromisoformat(self.run.created_at)
            # The first and the last year have moments that are in no year of another zone.
            moment = told.astimezone(UTC) if told.tzinfo is not None else None
        except (ValueError, OverflowError):
            moment = None
        if moment is None:
            raise EvidenceError(
                item="run.created_at",
                expected="an ISO 8601 moment with a time zone",
                found=repr(self.run.created_at)[:80],
                hint="Run `affidavit verify` on the bundle.",
            )
        return moment

    @property
    def ladder(self) -> dict[str, int]:
        """Return how many findings about single features stand on each rung, lowest first."""
        return {rung.value: self.findings.ladder.get(rung.value, 0) for rung in Rung}

    @property
    def stamp(self) -> str:
        """Return the moment of the run as RFC 3339 writes it, with Z."""
        return self.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")

    def uuid(self, *parts: str) -> str:
        """Return the UUID (version 5) of one thing in the exports of this record; another record gives another."""
        whole = digest_json([as_json(self.run), self.evidence])
        return str(uuid5(_IDS, canonical_json([whole, *parts]).decode()))


def line(text: str) -> str:
    """Return a text of the record as one line without hidden characters; it stays text, whatever it looks like."""
    return " ".join(visible(text).split()) or "(empty)"


def stable_uuid(*parts: str) -> str:
    """Return the UUID (version 5) of something that is the same in every audit: a model, an SAE, by its digest."""
    return str(uuid5(_IDS, canonical_json(list(parts)).decode()))


def hex_of(digest: str) -> str | None:
    """Return the 64 hex digits of `sha256:<hex>`, or None for a digest of another form."""
    name, _, value = digest.partition(":")
    held = name == "sha256" and len(value) == 64 and set(value) <= set("0123456789abcdef")
    return value if held else None
