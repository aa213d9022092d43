"""Exploratory interactions of any order among features, in the answer to a mix of two concepts.

The players are features, the value of a coalition is the model's mean outcome over the confirmation scenarios of a mix
(both concepts present, the first one's sentence in front) with every feature outside the coalition lowered to zero,
exactly, the SAE's error kept. The index is k-SII (Bordt and von Luxburg 2023, "From Shapley values to generalized
additive models and back"): Shapley interactions that add up, with their lower orders, to the difference between all
features and none. Where not all coalitions are run KernelSHAP-IQ estimates it (Fumagalli et al. 2024, arXiv
2405.10852). No test stands behind it and no sham: it suggests what to look at and claims nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from audit.arrays import FloatArray
from audit.capture.fitting import Fitted, stations_within
from audit.capture.held_prompts import Delta, combined
from audit.capture.interventions import Interventions
from audit.capture.model import LoadedModel
from audit.capture.prompts import Prompt, TokenisedPrompt, outcome_tokens, tokenise
from audit.capture.runner import Advance, calibrate
from audit.config import AnalysisConfig, CaptureConfig
from audit.errors import EnvironmentProblem, UsageError
from audit.progress import Progress
from audit.reopening import (
    AuditedBundle,
    FeatureChoice,
    Sources,
    choose_features,
    choose_sae,
    read_bundle,
    reload_model,
    reload_sae,
    reload_suites,
)
from probes.schema import OUTCOME_FRAME, Cell, Concept, Mix, Order, Outcome, Split, Suite

HEADING = "exploratory, no test behind it"
MOST_FEATURES = 15
MOST_EXACT = 10
DEFAULT_FEATURES = 8
DEFAULT_BUDGET = 1024
INDEX = "k-SII"


@dataclass(frozen=True, slots=True)
class ShapleyRequest:
    """Which features play, in which mix, and how much may be run.

    Args:
        bundle: the audit's folder.
        mix: id of the mix.
        features: as `choose_features` reads them; None: the strongest confirmed ones of the mix's two concepts.
        sae: name of the SAE, where the features do not say it.
        concept: whose question is asked about the mix; None: the first of its two that asks one.
        order: the largest interaction, 2 or 3.
        budget: coalitions that may be run; None: all of them up to 10 features, else 1,024.
        sources: where model, SAE and suites lie.
    """

    bundle: Path
    mix: str
    features: str | None
    sae: str | None
    concept: str | None
    order: int
    budget: int | None
    sources: Sources


@dataclass(frozen=True, slots=True)
class CoalitionValue:
    """The index of one set of features, in nats of the outcome."""

    latents: tuple[int, ...]
    value: float


@dataclass(frozen=True, slots=True)
class MixCoalitions:
    """Exploratory interactions in one mix.

    Args:
        heading: what this is not.
        question: the concept whose question was asked.
        exact: whether every coalition was run; else `coalitions` of them were and the values are estimates.
        untouched: mean outcome with every feature as it is; lowered: with all of them at zero, in nats.
        values: by order, the largest absolute value first.
    """

    heading: str
    mix: str
    question: str
    sae: str
    latents: tuple[int, ...]
    index: str
    order: int
    exact: bool
    coalitions: int
    n_scenarios: int
    untouched: float
    lowered: float
    values: tuple[CoalitionValue, ...]


def mix_coalitions(request: ShapleyRequest, *, progress: Progress) -> MixCoalitions:
    """Return Shapley-type interaction indices of features in a mix.

    Raises:
        EnvironmentProblem: the extra `shapley` is not installed.
        UsageError: the mix, the question or the features are not of this audit, or there are too many features.
        DigestMismatch: model, SAE, suite or evidence are others than the manifest names.
        SaeInvalid: the SAE is a transcoder.
    """
    shapiq = require_shapiq()
    bundle = read_bundle(request.bundle)
    suites = reload_suites(bundle, request.sources, whole=True)
    mix, suite = _find_mix(suites, request.mix)
    concept, outcome = _find_question(suites, mix, request.concept)
    choice = _players(bundle, mix, request)
    model = reload_model(bundle, request.sources, progress)
    fitted = reload_sae(bundle, request.sources, choice.sae, model)
    prompts = [tokenise(model, prompt, bundle.prompt_format) for prompt in _questions(suite, mix, concept, outcome)]
    game = _Game(model, fitted, prompts, choice.latents, limit=bundle.outlier_limits[choice.sae.name],
                 tokens=(concept, outcome), progress=progress)  # fmt: skip
    players = len(choice.latents)
    every = 2**players
    budget = request.budget or (every if players <= MOST_EXACT else DEFAULT_BUDGET)
    exact = budget >= every
    with progress.stage("running coalitions", total=min(budget, every) * len(prompts)) as advance:
        game.advance = advance
        if exact:
            found = shapiq.ExactComputer(game, players)(INDEX, order=request.order)
        else:
            seed = AnalysisConfig().seed % 2**32
            sampler = shapiq.KernelSHAPIQ(players, max_order=request.order, index=INDEX, random_state=seed)
            found = sampler.approximate(budget, game)
        ends = game(np.array([[True] * players, [False] * players]))
    # The library leaves out what is 0.
    values = [
        CoalitionValue(tuple(choice.latents[n] for n in members), float(found.dict_values.get(members, 0.0)))
        for size in range(1, request.order + 1)
        for members in combinations(range(players), size)
    ]
    return MixCoalitions(
        heading=HEADING,
        mix=mix.id,
        question=concept.id,
        sae=choice.sae.name,
        latents=choice.latents,
        index=INDEX,
        order=request.order,
        exact=exact,
        coalitions=min(budget, every),
        n_scenarios=len(prompts),
        untouched=float(ends[0]),
        lowered=float(ends[1]),
        values=tuple(sorted(values, key=lambda one: (len(one.latents), -abs(one.value), one.latents))),
    )


def require_shapiq() -> ModuleType:
    """Return the library that computes the indices.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    try:
        import shapiq  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise EnvironmentProblem(
            item="interactions of higher order",
            expected="the library shapiq",
            found=str(error),
            hint="Install the extra: pip install 'affidavit[shapley]'.",
        ) from error
    module: ModuleType = shapiq
    return module


class _Game:
    """The mean outcome of coalitions; what is needed of the untouched prompts is computed once."""

    def __init__(
        self,
        model: LoadedModel,
        fitted: Fitted,
        prompts: Sequence[TokenisedPrompt],
        latents: Sequence[int],
        *,
        limit: float,
        tokens: tuple[Concept, Outcome],
        progress: Progress,
    ) -> None:
        if fitted.sae.awaits_scale:
            factor = CaptureConfig().outlier_norm_factor
            fitted = fitted.calibrated(calibrate(model, fitted.sites, prompts, factor=factor))
        (station,) = stations_within((fitted,), {fitted.site: limit})
        self._interventions = Interventions(
            model, station, downstream=None, batch_tokens=model.batch_tokens, say=progress.say
        )
        wanted = outcome_tokens(model, *tokens)
        held = self._interventions.hold([(prompt, wanted) for prompt in prompts])
        self._prompts = [(one, [one.lowering(latent, 0.0) for latent in latents]) for one in held]
        self._nothing = Delta.none(fitted.sae.w_dec.shape[1])
        self.advance: Advance = lambda _: None

    def __call__(self, coalitions: NDArray[np.bool_]) -> FloatArray:
        """Return (c,) mean outcomes of (c, players) coalitions: a feature outside is lowered to zero."""
        total = np.zeros(len(coalitions))
        for held, lowerings in self._prompts:
            deltas = [
                combined([self._nothing, *(one for one, inside in zip(lowerings, row, strict=True) if not inside)])
                for row in coalitions
            ]
            total += self._interventions.run(held, deltas).outcome
            self.advance(len(coalitions))
        return total / len(self._prompts)


def _find_mix(suites: Sequence[Suite], wanted: str) -> tuple[Mix, Suite]:
    mixes = {mix.id: (mix, suite) for suite in suites for mix in suite.mixes}
    if wanted not in mixes:
        raise UsageError(
            item=f"mix {wanted!r}",
            expected=f"a mix of the audit's suites: {', '.join(mixes) or 'they have none'}",
            found="no such mix",
            hint="Name one of them.",
        )
    return mixes[wanted]


def _find_question(suites: Sequence[Suite], mix: Mix, wanted: str | None) -> tuple[Concept, Outcome]:
    concepts = {concept.id: concept for suite in suites for concept in suite.concepts}
    asking = [(concepts[own], concepts[own].outcome) for own in mix.concepts if own in concepts]
    for concept, outcome in asking:
        if outcome is not None and wanted in (None, concept.id):
            return concept, outcome
    raise UsageError(
        item=f"mix {mix.id}: question of {wanted or 'its concepts'}",
        expected=f"a concept of the mix that asks a question: {', '.join(mix.concepts)}",
        found="none",
        hint="Name one of them with --concept, or give the concept an outcome.",
    )


def _players(bundle: AuditedBundle, mix: Mix, request: ShapleyRequest) -> FeatureChoice:
    if request.features is not None:
        choice = choose_features(bundle, request.features, sae=request.sae)
    else:
        record = choose_sae(bundle, request.sae)
        owned = dict.fromkeys(latent for concept, latent in bundle.owners(record.name) if concept in mix.concepts)
        choice = FeatureChoice(record, tuple(owned)[:DEFAULT_FEATURES])
    silent = sorted(set(choice.latents) - set(bundle.live(choice.sae.name).latents.tolist()))
    if silent or not 2 <= len(choice.latents) <= MOST_FEATURES:
        raise UsageError(
            item="features",
            expected=f"2 to {MOST_FEATURES} features that fired in the audit; coalitions double with each",
            found=f"{', '.join(map(str, silent))} never fired" if silent else str(len(choice.latents)),
            hint="Name them with --features.",
        )
    return choice


def _questions(suite: Suite, mix: Mix, concept: Concept, outcome: Outcome) -> list[Prompt]:
    return [
        Prompt(
            id=number,
            suite=suite.id,
            domain=suite.domain,
            concept=mix.id,
            scenario=scenario.id,
            split=scenario.split,
            arm=Cell.BOTH,
            frame=OUTCOME_FRAME,
            text=outcome.ask(scenario.text(Cell.BOTH, Order.A_FIRST)),
            told=outcome.place(scenario.text(Cell.BOTH, Order.A_FIRST)),
            asked=concept.id,
        )
        for number, scenario in enumerate(mix.in_split(Split.CONFIRMATION))
    ]
