"""The result of a whole audit, and the circumstances of its run."""

from __future__ import annotations

from dataclasses import dataclass

from audit.digests import Json
from audit.records.association import ConceptResult, PermutationControl
from audit.records.cards import FeatureCard
from audit.records.causal import CausalResult
from audit.records.fidelity import Certificate, Exclusions, Fidelity, PrecisionResult
from audit.records.gate import GateVerdict
from audit.records.interaction import CoFiring, MixResult
from audit.records.subjects import ModelRecord, SaeRecord, SuiteRecord

# In the environment of a run: the PAdES level that its seal has. The level asked for is in its configuration.
SEAL_LEVEL = "seal level"
FINDINGS_SCHEMA = "affidavit/findings/6"


@dataclass(frozen=True, slots=True)
class InstrumentResult:
    """One SAE of the audit: what it is, how far it can be trusted on the probes, and what it is certified for.

    `certificate` is None when the SAE has none for this model; `certificate_note` then says why. `precision` is None
    when the model ran in float32.
    """

    record: SaeRecord
    fidelity: Fidelity
    exclusions: Exclusions
    certificate: Certificate | None
    certificate_note: str
    precision: PrecisionResult | None


@dataclass(frozen=True, slots=True)
class Findings:
    """The machine-readable result of an audit. It holds no clock and no path: equal inputs give an equal digest.

    The first of `saes` is the one that the summary speaks of. `causal` is None when nothing was intervened on, and
    `not_tested` then says so.
    """

    schema: str
    model: ModelRecord
    saes: tuple[InstrumentResult, ...]
    suites: tuple[SuiteRecord, ...]
    format: str
    permutation_control: PermutationControl
    concepts: tuple[ConceptResult, ...]
    cofiring: tuple[CoFiring, ...]
    mixes: tuple[MixResult, ...]
    causal: CausalResult | None
    cards: tuple[FeatureCard, ...]
    ladder: dict[str, int]
    not_tested: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SealInfo:
    """Who seals the bundle, printed on the cover before the seal is put on."""

    common_name: str
    organisation: str
    fingerprint: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class PlanInfo:
    """The plan that an audit carried out: when it was sealed, by whom, and the digest of its statement."""

    signed_at: str
    common_name: str
    fingerprint: str
    digest: str


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The audit before this one in a series: its place, and the digest of its signed statement."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The circumstances of a run: everything that may differ between two runs with equal findings.

    `policy` is what a policy said of the findings before they were sealed; None where none was put.
    """

    created_at: str
    tool_version: str
    command: str
    config: dict[str, Json]
    environment: dict[str, str]
    findings_digest: str
    bundle_name: str
    seal: SealInfo
    plan: PlanInfo | None = None
    previous: Predecessor | None = None
    policy: GateVerdict | None = None
