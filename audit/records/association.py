"""What the association tests found, feature by feature and concept by concept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from audit.records.fidelity import Fidelity
from audit.records.words import Contrast, Estimate, Lexical, Reading, Rung


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature on one contrast of one concept; every number is from the confirmation split only."""

    id: str
    concept: str
    contrast: Contrast
    sae: str
    latent: int
    rung: Rung
    reason: str
    d_z: Estimate
    auroc: Estimate
    firing_difference: Estimate
    p_value: float
    p_holm: float
    p_max_t: float
    selected_by: bool
    n_scenarios: int
    n_nonzero: int
    lexical: Lexical
    query: str


class BaselineKind(StrEnum):
    """A reader that needs no SAE."""

    MEANS = "difference of means"
    LOGISTIC = "logistic regression"
    NEURON = "best neuron"
    WORDS = "bag of words"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline, fitted on discovery, measured on confirmation.

    `detail` says what it reads. `feature_minus` is the paired AUROC of the SAE's first feature minus its own,
    `set_minus` that of the SAE's largest set of features minus its own; None where the SAE has none.
    """

    kind: BaselineKind
    detail: str
    auroc: Estimate
    d_z: Estimate
    p_value: float
    p_holm: float
    separates: bool
    n_scenarios: int
    feature_minus: Estimate | None
    set_minus: Estimate | None


class ControlKind(StrEnum):
    """An SAE that learnt nothing, or nothing in its decoder, in the place of the trained one."""

    RANDOM_DIRECTIONS = "random directions"
    FROZEN_DECODER = "frozen random decoder"


@dataclass(frozen=True, slots=True)
class ControlResult:
    """The same procedure through a control SAE of the same number of latents.

    `compared` first-ranked latents set the bar: as many as discovery chose of them or of the SAE, at least 20.
    `best_d_z` is their largest absolute confirmation effect; a feature must exceed it to be called confirmed.
    """

    kind: ControlKind
    tested: int
    selected: int
    confirmed: int
    compared: int
    best_d_z: float | None
    best_auroc: float | None


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A probe on the k features that rank first on discovery; `gain` is its AUROC minus that of the first alone."""

    latents: tuple[int, ...]
    auroc: Estimate
    gain: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class Power:
    """The smallest d_z that a feature needed for an 80% chance of being found, with this suite and this many tests.

    `passing` asks for both tests, `confirmed` also for exceeding the controls' bar. None: no effect up to 5 would do.
    """

    passing: float | None
    confirmed: float | None


@dataclass(frozen=True, slots=True)
class ContrastResult:
    """One contrast of one concept through one SAE: what the model can tell apart, and whether the SAE sees it.

    `best_latent` is the feature that ranks first on discovery; its effect is measured on confirmation, so it is not a
    maximum over the data that it is judged by. `findings` are in the order of their rank on discovery. `probe_kind` is
    the linear probe that did better on discovery. `passing` counts features that pass both tests,
    `confirmed` those that exceed the controls besides. `selected_by` counts what discovery would still have chosen by
    Benjamini-Yekutieli, whatever the dependence between features.
    """

    contrast: Contrast
    sae: str
    reading: Reading
    reason: str
    n_discovery: int
    n_confirmation: int
    tested: int
    selected: int
    selected_by: int
    passing: int
    confirmed: int
    probe_kind: BaselineKind
    baselines: tuple[Baseline, ...]
    controls: tuple[ControlResult, ...]
    best_latent: int | None
    best_auroc: Estimate | None
    feature_sets: tuple[FeatureSet, ...]
    split_or_absorbed: bool
    power: Power
    findings: tuple[Finding, ...]

    @property
    def probe(self) -> Baseline:
        """Return the linear probe that speaks for the model."""
        return self.baseline(self.probe_kind)

    def baseline(self, kind: BaselineKind) -> Baseline:
        """Return one baseline.

        Raises:
            KeyError: it was not measured.
        """
        return {baseline.kind: baseline for baseline in self.baselines}[kind]

    @property
    def bar(self) -> float | None:
        """Return the largest |d_z| of any control, which a feature must exceed; None where none was measured."""
        return max((c.best_d_z for c in self.controls if c.best_d_z is not None), default=None)

    @property
    def control_auroc(self) -> float | None:
        """Return the best AUROC of any control; None where none was measured."""
        return max((c.best_auroc for c in self.controls if c.best_auroc is not None), default=None)


@dataclass(frozen=True, slots=True)
class UntestedContrast:
    """A contrast of a concept whose data admit no test, and why; its reading is `unresolved`."""

    contrast: Contrast
    sae: str
    reason: str


@dataclass(frozen=True, slots=True)
class OutcomeResult:
    """What the model answers: logit(target) - logit(foil), in nats, concept arm against control arm."""

    question: str
    target: str
    foil: str
    concept_mean: float
    control_mean: float
    difference: Estimate
    auroc: Estimate
    p_value: float
    p_holm: float
    n_scenarios: int


@dataclass(frozen=True, slots=True)
class Rule:
    """The law, guideline or standard that makes a concept sensitive."""

    name: str
    clause: str


@dataclass(frozen=True, slots=True)
class ConceptResult:
    """All that the audit found for one concept; `fidelity` has a row an SAE, `contrasts` one a contrast and SAE."""

    id: str
    domain: str
    title: str
    definition: str
    rules: tuple[Rule, ...]
    why: str
    exploratory: bool
    fidelity: tuple[Fidelity, ...]
    contrasts: tuple[ContrastResult, ...]
    untested: tuple[UntestedContrast, ...]
    relabelled_with_finding: int
    outcome: OutcomeResult | None


@dataclass(frozen=True, slots=True)
class PermutationControl:
    """The measured false positive rate: both steps of the tests on permuted arm labels.

    `with_any_selection` counts relabellings in which discovery alone chose anything, the sharper check of the two: each
    contrast may do so in 5% of them. `with_any_finding` counts those in which confirmation let something through.
    """

    permutations: int
    with_any_selection: int
    selection_limit: float
    with_any_finding: int
    rate: float
    limit: float
    passed: bool

    @property
    def holds(self) -> bool:
        """Return whether the check with shuffled labels was made and passed."""
        return self.passed and self.permutations > 0
