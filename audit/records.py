"""Frozen records that cross the seams between rooms.

Everything here serialises to canonical JSON through `as_json`; the result of an audit, `Findings`, is the one record
that reports, exports and verification read. Numbers are Python floats; an estimate that could not be computed is None
and the record says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin, get_type_hints

from audit.digests import Json
from audit.errors import EvidenceError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FINDINGS_SCHEMA = "affidavit/findings/5"
CERTIFICATE_SCHEMA = "affidavit/sae-certificate/1"
LABELS_SCHEMA = "affidavit/labels/1"


class Contrast(StrEnum):
    """What two arms are compared. The two answer different questions and are never mixed."""

    TOPIC = "topic"
    DISTINCTION = "distinction"


class Rung(StrEnum):
    """The evidence ladder, lowest first. The default is `unresolved`: absence of evidence never reads as a pass."""

    UNRESOLVED = "unresolved"
    OBSERVED = "observed"
    ASSOCIATED = "associated"
    CONFIRMED = "confirmed"
    CAUSAL = "causal"

    @property
    def height(self) -> int:
        """Return the position on the ladder; 0 is `unresolved`."""
        return list(Rung).index(self)


class Colour(StrEnum):
    """How far an instrument can be trusted. The limits are this project's conventions."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"


class Reading(StrEnum):
    """What the pair (linear probe, SAE) says about one contrast."""

    DECOMPOSED = "represented and decomposed"
    NOT_DECOMPOSED = "represented, not decomposed by this SAE"
    NOT_REPRESENTED = "not represented at this site"
    SUSPECT = "suspect"
    UNRESOLVED = "unresolved"


class Lexical(StrEnum):
    """Whether a feature follows the concept's cue words rather than the concept."""

    LEXICAL = "lexical"
    NOT_LEXICAL = "not lexical"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


class LabelSource(StrEnum):
    """Where a feature's label comes from."""

    TOKENS = "tokens"
    CONCEPT = "concept"
    LOGIT_LENS = "logit lens"
    NEURONPEDIA = "neuronpedia"


class Quantile(StrEnum):
    """Which part of the scenarios in which a feature fires a context stands for, by rank of its largest activation."""

    TOP = "top"
    MIDDLE = "middle"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% cluster bootstrap interval (BCa over scenarios).

    `low` and `high` are None when the bootstrap distribution is degenerate (every scenario gave the same value).
    """

    value: float
    low: float | None
    high: float | None


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
class Fidelity:
    """How well an SAE reproduces the residual stream on a set of tokens.

    `fvu` is the fraction of variance unexplained about the mean (predicting the mean gives 1). `delta_ce` (nats per
    token, with a cluster bootstrap interval) is the rise in next-token cross-entropy when the reconstruction is spliced
    in; `ce_recovered` the share of the loss from ablating to the mean residual that the reconstruction wins back; `kl`
    (nats) the divergence of the spliced next-token distribution; `kl_ratio` that divergence over the one caused by a
    random error of equal norm. They are None where they were not measured.
    """

    sae: str
    scope: str
    tokens: int
    fvu: float
    cosine: float
    l0_mean: float
    l0_p05: float
    l0_p95: float
    dead_share: float | None
    dense_share: float | None
    spliced_tokens: int
    delta_ce: Estimate | None
    ce: float | None
    ce_recovered: float | None
    kl: float | None
    kl_ratio: float | None
    colour: Colour
    reason: str


@dataclass(frozen=True, slots=True)
class SeedStability:
    """Which of an SAE's latents another training with another seed finds too (Paulo and Belrose 2025, 2501.16615).

    Latents are matched one to one by the Hungarian method on decoder cosines. A latent counts as found again when its
    match has a decoder cosine of at least `threshold`; `share_both` asks the same of the encoder directions too.
    `random_share` is the first share for random directions of equal shape in the other's place: what chance gives.
    `cosines` are the decoder cosines by latent; a summary leaves them out.
    """

    other: str
    other_digest: str
    threshold: float
    share_decoder: float
    share_both: float
    random_share: float
    median_cosine: float
    cosines: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TrainingPoint:
    """One point of a training's curve, on tokens that were not trained on."""

    updates: int
    fvu_plain: float | None
    fvu_chat: float | None
    dead: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What an SAE was measured to do on text that it was not trained on; valid for one SAE on one model.

    `rows` holds the scopes `all`, `plain`, `chat` and one for each register of the text.
    """

    schema: str
    sae: str
    sae_digest: str
    site: str
    model: str
    model_digest: str
    dtype: str
    text: str
    text_digest: str
    selection: str
    documents: int
    sequences: int
    tokens: int
    outliers: int
    outlier_limit: float
    rows: tuple[Fidelity, ...]
    stability: SeedStability | None
    curve: tuple[TrainingPoint, ...]
    tool: str

    def row(self, scope: str) -> Fidelity | None:
        """Return the row of a scope, or None when the text had no such tokens."""
        return next((row for row in self.rows if row.scope == scope), None)


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
class TokenActivation:
    """One token of a context with the feature's activation on it (SAE units; 0 where silent or excluded)."""

    text: str
    activation: float


@dataclass(frozen=True, slots=True)
class Context:
    """A held-out prompt in which a feature fires: one of the strongest, or one that stands for the weaker ones."""

    prompt: str
    concept: str
    arm: str
    quantile: Quantile
    tokens: tuple[TokenActivation, ...]


@dataclass(frozen=True, slots=True)
class FeatureLabel:
    """A guess in words at what a feature is about, with where it comes from and how well it held on unseen scenarios.

    Args:
        text: the guess; None where there is none, and `note` says why.
        score: of the guess, on confirmation scenarios only; None where it was not scored here, and `note` says why.
        score_name: what was measured; empty without a score.
        n: what `score` was measured on, as many of `unit`; None without a score.
        unit: "tokens" or "scenarios"; empty without a score.
        note: what a reader must know besides; what an importer said of its own score is here.
    """

    text: str | None
    source: LabelSource
    score: float | None
    score_name: str
    n: int | None
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class CardConcept:
    """A finding about the feature: concept, contrast, rung, and d_z on confirmation scenarios."""

    concept: str
    contrast: Contrast
    rung: Rung
    lexical: Lexical
    effect: Estimate


@dataclass(frozen=True, slots=True)
class Selectivity:
    """How much better a feature tells one concept from neutral text than any other audited concept.

    `concept` was chosen on discovery scenarios; `auroc` and that of the best other concept, `runner_up`, are paired
    AUROCs of the topic contrast on confirmation scenarios. Below 0 another concept is told better. The runner-up is the
    best of many on the data that it is judged by, so that `difference` is too small rather than too large.
    """

    concept: str
    auroc: float
    runner_up: str
    runner_up_auroc: float
    difference: float


@dataclass(frozen=True, slots=True)
class FeatureCard:
    """What a reader needs to look a feature in the eye.

    `density` is the share of audited tokens on which it fires. `labels` has one entry a source, the best scored first;
    a source that gives none says why. `selectivity` is None with fewer than two audited concepts, and where the feature
    was louder on no concept of the discovery scenarios. `seed_cosine` is the decoder cosine of its match in a training
    with another seed, None where the SAE's certificate names none.
    """

    sae: str
    latent: int
    density: float
    max_activation: float
    labels: tuple[FeatureLabel, ...]
    concepts: tuple[CardConcept, ...]
    selectivity: Selectivity | None
    seed_cosine: float | None
    contexts: tuple[Context, ...]


@dataclass(frozen=True, slots=True)
class ImportedLabel:
    """One explanation of an import: untrusted text, made and perhaps scored by others.

    Args:
        explainer: the model that wrote it, method: how it was asked; empty where the export does not say.
        score: what the export itself says of it, by the scorer that scored most of the export; None without one.
    """

    latent: int
    text: str
    explainer: str
    method: str
    score: float | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many explanations of an export an import has not, and why."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Explanations from elsewhere, bound to the weights of one SAE.

    Args:
        model, layer: as the export names them.
        scorer: whose scores the labels carry, as the export names it; empty when it has none.
        exports: digests of the files that were read, sorted.
        labels: at most one a latent, ascending.
    """

    schema: str
    sae: str
    sae_digest: str
    site: str
    source: LabelSource
    model: str
    layer: str
    scorer: str
    exports: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    labels: tuple[ImportedLabel, ...]


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


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The audited model."""

    name: str
    source: str
    architecture: str
    digest: str
    parameters: int
    layers: int
    width: int
    dtype: str
    chat_template: bool


@dataclass(frozen=True, slots=True)
class SaeRecord:
    """The instrument, with what its training card or its publisher's configuration says.

    `site` is where it reads. `target` is the site that its output stands for: the same, but for transcoders, which read
    at the input of a part of the model and answer for its output. `k` is None where no fixed number of latents fires;
    what was trained on is None where the source does not say. `source` says where it came from, in the user's words,
    `format` whose layout it had, and `notes` what was done to bring it into the canonical form.
    """

    name: str
    site: str
    target: str
    architecture: str
    format: str
    source: str
    latents: int
    k: int | None
    width: int
    target_width: int
    digest: str
    training_tokens: int | None
    training_updates: int | None
    training_data_digest: str | None
    licence: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SuiteRecord:
    """A probe suite as it was read.

    Args:
        digest: over all files of the suite, whichever part ran.
        concepts: those that ran.
        subset: the named part that ran; None is the whole.
        withheld: whether the texts are kept out of the bundle.
    """

    id: str
    title: str
    version: str
    digest: str
    concepts: tuple[str, ...]
    scenarios: int
    prompts: int
    subset: str | None
    withheld: bool


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Token positions that no statistic saw, counted."""

    tokens_total: int
    template_tokens: int
    outlier_tokens: int
    outlier_limit: float
    kept_tokens: int


@dataclass(frozen=True, slots=True)
class PrecisionResult:
    """How an audit in reduced precision differs from float32, measured on some of its prompts in both.

    `shared_firings` is the share of (token, latent) pairs that fire in both among those that fire in either;
    `median_change` the median relative change of an activation that fires in both. Of the `findings` those that vary on
    the sample are `compared`, and `same_sign` of these kept the sign of their mean effect; `largest_shift` is the
    largest mean absolute change of a finding's effect on a scenario, in its standard deviations over scenarios, None
    where none varies.
    """

    prompts: int
    tokens: int
    firings: int
    shared_firings: float
    median_change: float | None
    findings: int
    compared: int
    same_sign: int
    largest_shift: float | None


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

    The first of `saes` is the one that the summary speaks of.
    """

    schema: str
    model: ModelRecord
    saes: tuple[InstrumentResult, ...]
    suites: tuple[SuiteRecord, ...]
    format: str
    permutation_control: PermutationControl
    concepts: tuple[ConceptResult, ...]
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
class RunInfo:
    """The circumstances of a run: everything that may differ between two runs with equal findings."""

    created_at: str
    tool_version: str
    command: str
    config: dict[str, Json]
    environment: dict[str, str]
    findings_digest: str
    bundle_name: str
    seal: SealInfo


def as_json(value: object) -> Json:
    """Return a record as plain JSON values: enums by value, tuples as lists.

    Raises:
        TypeError: a field holds something that is not a record, an enum or a JSON value.
    """
    if isinstance(value, Enum):
        return str(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass_as_json(value)
    if isinstance(value, dict):
        return {str(key): as_json(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(child) for child in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot enter a record")


def parse_record(kind: Any, value: Json, *, where: str = "") -> Any:  # noqa: ANN401 - reflection
    """Return the record that `as_json` turned into this value.

    Raises:
        EvidenceError: a field is missing, unknown or of another type; the message names it.
    """
    options = [option for option in get_args(kind) if option is not type(None)]
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise _unlike(kind, value, where)
        return tuple(parse_record(options[0], child, where=f"{where}[{n}]") for n, child in enumerate(value))
    if options:
        return None if value is None else parse_record(options[0], value, where=where)
    if not is_dataclass(kind):
        return _parse_value(kind, value, where)
    names = [field.name for field in fields(kind)]
    if not isinstance(value, Mapping):
        raise _unlike(kind, value, where)
    if odd := sorted(set(names) ^ set(value)):
        raise _unlike(kind, ", ".join(f"{'no' if name in names else 'unknown'} {name}" for name in odd), where)
    hints, record = get_type_hints(kind), cast("Any", kind)
    return record(**{name: parse_record(hints[name], value[name], where=f"{where}.{name}") for name in names})


def _parse_value(kind: Any, value: Json, where: str) -> Any:  # noqa: ANN401 - reflection
    if issubclass(kind, StrEnum) and isinstance(value, str) and value in {member.value for member in kind}:
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise _unlike(kind, value, where)
    return value


def _unlike(kind: Any, value: Json, where: str) -> EvidenceError:  # noqa: ANN401 - reflection
    return EvidenceError(
        item=where.lstrip(".") or kind.__name__,
        expected=getattr(kind, "__name__", str(kind)),
        found=repr(value)[:80],
        hint="The file was made by another version, or is damaged.",
    )


def _dataclass_as_json(value: DataclassInstance) -> Json:
    return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
