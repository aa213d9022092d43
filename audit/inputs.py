"""What an audit reads before anything is run: model, SAEs, controls and every prompt, checked against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.capture.fitting import Fitted, fit_sae
from audit.capture.model import LoadedModel, load_model
from audit.capture.prompts import (
    OutcomeTokens,
    TokenisedPrompt,
    list_mix_prompts,
    list_outcome_prompts,
    list_prompts,
    outcome_tokens,
    resolve_format,
    tokenise,
)
from audit.capture.ray_executor import require_ray
from audit.capture.sae import Sae
from audit.capture.sae_sources import expand_sources, load_sae
from audit.config import AuditConfig, ExecutorKind, PromptFormat
from audit.controls import FrozenControl, load_controls
from audit.errors import ConfigError
from audit.progress import Progress
from audit.records import SuiteRecord
from probes.schema import Suite


@dataclass(frozen=True, slots=True)
class Inputs:
    """The parts of an audit; the model has not seen a prompt yet.

    Args:
        fitted: the SAEs at their places; the first is the one that the summary speaks of.
        frozen: the trained control of each SAE that has one, by the SAE's name.
        prompts: every scenario arm in every frame.
        questions: the outcome prompts with the token ids of their continuations.
        mix_prompts: every cell of every mix in both orders.
    """

    suites: tuple[Suite, ...]
    model: LoadedModel
    fitted: tuple[Fitted, ...]
    frozen: Mapping[str, FrozenControl]
    prompt_format: PromptFormat
    prompts: tuple[TokenisedPrompt, ...]
    questions: tuple[tuple[TokenisedPrompt, OutcomeTokens], ...]
    mix_prompts: tuple[TokenisedPrompt, ...]

    @property
    def suite_records(self) -> tuple[SuiteRecord, ...]:
        """Return what is run of each suite."""
        return tuple(
            SuiteRecord(
                id=suite.id,
                title=suite.title,
                version=suite.version,
                digest=suite.digest,
                concepts=tuple(concept.id for concept in suite.concepts),
                mixes=tuple(mix.id for mix in suite.mixes),
                scenarios=sum(len(part.scenarios) for part in suite.parts),
                prompts=sum(p.prompt.suite == suite.id for p in (*self.prompts, *self.mix_prompts)),
                subset=suite.subset,
                withheld=suite.withheld,
            )
            for suite in self.suites
        )


def read_inputs(suites: tuple[Suite, ...], config: AuditConfig, progress: Progress) -> Inputs:
    """Load model and SAEs and tokenise every prompt, so that each thing that cannot fit is refused before work starts.

    Raises:
        AffidavitError: the model is missing, an SAE belongs to another model, a prompt is too long, an outcome is not
            one token.
    """
    if config.capture.executor is ExecutorKind.RAY:
        require_ray()
    saes = [load_sae(source) for source in expand_sources(config.sae.sources)]
    _require_distinct(saes)
    progress.say("loading the model")
    model = load_model(config.model, say=progress.say)
    fitted = tuple(fit_sae(sae, model) for sae in saes)
    frozen = load_controls(config.sae.controls, fitted, model)
    prompt_format = resolve_format(model, config.probes.format)
    prompts = list_prompts(suites)
    continuations = {
        concept.id: outcome_tokens(model, concept, concept.outcome)
        for suite in suites
        for concept in suite.concepts
        if concept.outcome is not None
    }
    questions = list_outcome_prompts(suites, first_id=len(prompts))
    mixes = list_mix_prompts(suites, first_id=len(prompts) + len(questions))
    return Inputs(
        suites=suites,
        model=model,
        fitted=fitted,
        frozen=frozen,
        prompt_format=prompt_format,
        prompts=tuple(tokenise(model, prompt, prompt_format) for prompt in prompts),
        questions=tuple((tokenise(model, q, prompt_format), continuations[q.concept]) for q in questions),
        mix_prompts=tuple(tokenise(model, prompt, prompt_format) for prompt in mixes),
    )


def _require_distinct(saes: Sequence[Sae]) -> None:
    names = [sae.record.name for sae in saes]
    if len(set(names)) < len(names):
        raise ConfigError(
            item="sae.sources",
            expected="SAEs of different names",
            found=", ".join(names),
            hint="Rename one in its card, or name it once.",
        )
