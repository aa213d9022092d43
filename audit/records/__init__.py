"""Frozen records that cross the seams between rooms.

Everything here serialises to canonical JSON through `as_json`; the result of an audit, `Findings`, is the one record
that reports, exports and verification read. Numbers are Python floats; an estimate that could not be computed is None
and the record says why.
"""

from audit.records.association import (
    Baseline,
    BaselineKind,
    ConceptResult,
    ContrastResult,
    ControlKind,
    ControlResult,
    FeatureSet,
    Finding,
    OutcomeResult,
    PermutationControl,
    Power,
    Rule,
    UntestedContrast,
)
from audit.records.cards import (
    LABELS_SCHEMA,
    CardConcept,
    Context,
    FeatureCard,
    FeatureLabel,
    ImportedLabel,
    LabelFile,
    LabelSource,
    LeftOut,
    Quantile,
    Selectivity,
    TokenActivation,
)
from audit.records.fidelity import (
    CERTIFICATE_SCHEMA,
    Certificate,
    Exclusions,
    Fidelity,
    PrecisionResult,
    SeedStability,
    TrainingPoint,
)
from audit.records.results import FINDINGS_SCHEMA, Findings, InstrumentResult, RunInfo, SealInfo
from audit.records.serial import as_json, parse_record
from audit.records.subjects import ModelRecord, SaeRecord, SuiteRecord
from audit.records.words import Colour, Contrast, Estimate, Lexical, Reading, Rung

__all__ = [
    "CERTIFICATE_SCHEMA",
    "FINDINGS_SCHEMA",
    "LABELS_SCHEMA",
    "Baseline",
    "BaselineKind",
    "CardConcept",
    "Certificate",
    "Colour",
    "ConceptResult",
    "Context",
    "Contrast",
    "ContrastResult",
    "ControlKind",
    "ControlResult",
    "Estimate",
    "Exclusions",
    "FeatureCard",
    "FeatureLabel",
    "FeatureSet",
    "Fidelity",
    "Finding",
    "Findings",
    "ImportedLabel",
    "InstrumentResult",
    "LabelFile",
    "LabelSource",
    "LeftOut",
    "Lexical",
    "ModelRecord",
    "OutcomeResult",
    "PermutationControl",
    "Power",
    "PrecisionResult",
    "Quantile",
    "Reading",
    "Rule",
    "RunInfo",
    "Rung",
    "SaeRecord",
    "SealInfo",
    "SeedStability",
    "Selectivity",
    "SuiteRecord",
    "TokenActivation",
    "TrainingPoint",
    "UntestedContrast",
    "as_json",
    "parse_record",
]
