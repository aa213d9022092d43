"""`affidavit steer` as a function: suppress features of a sealed audit in the model that it audited."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audit.capture.prompts import list_outcome_prompts, outcome_tokens, tokenise
from audit.capture.steering import Steerer
from audit.config import AnalysisConfig
from audit.progress import Progress
from audit.records import Suppression
from audit.reopening import (
    Sources,
    choose_features,
    concept_of,
    read_bundle,
    reload_model,
    reload_sae,
    reload_suites,
)
from audit.steering import ON_DEMAND, SteeringPlan, measure_suppression, question_pairs, sham_sets


@dataclass(frozen=True, slots=True)
class SteerRequest:
    """What to hold down, and where the parts of the audit lie.

    Args:
        bundle: the audit's folder.
        features: latents with a comma between, with or without their layer, as `choose_features` reads them.
        concept: whose question is asked; None: the one that the features are confirmed for.
        sae: name of the SAE, where the features do not say it.
        doses: in units of the largest activation in the audit.
        new_tokens: the most that the model writes after a prompt.
        sources: where model, SAE and suites lie.
    """

    bundle: Path
    features: str
    concept: str | None
    sae: str | None
    doses: tuple[float, ...]
    new_tokens: int
    sources: Sources


def steer_bundle(request: SteerRequest, *, progress: Progress) -> Suppression:
    """Measure what suppressing features does to a concept's answers and texts, and what it costs.

    Every confirmation scenario of the concept is asked, up to 24. Largest activations come from the bundle's evidence.

    Raises:
        UsageError: the features or the concept are not of this audit, or a part of it was not named.
        DigestMismatch: model, SAE, suite or evidence are others than the manifest names.
        AffidavitError: a part cannot be loaded.
    """
    bundle = read_bundle(request.bundle)
    choice = choose_features(bundle, request.features, sae=request.sae)
    defaults = AnalysisConfig()
    plan = SteeringPlan(
        latents=choice.latents,
        live=bundle.live(choice.sae.name),
        doses=request.doses,
        new_tokens=request.new_tokens,
        seed=defaults.seed,
        resamples=defaults.bootstrap,
        size=ON_DEMAND,
    )
    # Before the model is loaded: a feature that never fired is told at once.
    sham_sets(plan)
    suites = reload_suites(bundle, request.sources)
    asking = {
        concept.id: (suite, concept, concept.outcome)
        for suite in suites
        for concept in suite.concepts
        if concept.outcome is not None
    }
    name = concept_of(bundle, choice, request.concept, tuple(asking))
    suite, concept, outcome = asking[name]
    model = reload_model(bundle, request.sources, progress)
    steerer = Steerer(model, reload_sae(bundle, request.sources, choice.sae, model), say=progress.say)
    tokens = outcome_tokens(model, concept, outcome)
    questions = [
        (tokenise(model, prompt, bundle.prompt_format), tokens)
        for prompt in list_outcome_prompts((suite,), first_id=0)
        if prompt.concept == name
    ]
    pairs = question_pairs(questions, name)
    with progress.stage("suppressing features", total=min(len(pairs), ON_DEMAND.scenarios)) as advance:
        return measure_suppression(steerer, pairs, plan, withheld=suite.withheld, advance=advance)
