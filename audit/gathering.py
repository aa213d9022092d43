"""The part of an audit that runs the model: capture, outcomes, fidelity, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from audit.capture.fitting import Fitted, fit_sae, neurons_beside, stations
from audit.capture.jobs import Executor, LocalExecutor, capture, plan_jobs
from audit.capture.model import LoadedModel, load_model
from audit.capture.outputs import OutcomeLogits, SplicedPrompt, answer_outcomes, splice
from audit.capture.prompts import (
    OutcomeTokens,
    Prompt,
    TokenisedPrompt,
    list_outcome_prompts,
    list_prompts,
    outcome_tokens,
    resolve_format,
    tokenise,
)
from audit.capture.ray_executor import RayExecutor, require_ray
from audit.capture.recipe import InstrumentRecipe, Recipe, with_control
from audit.capture.runner import Calibration, Station, calibrate
from audit.capture.sae import Sae
from audit.capture.sae_sources import expand_sources, load_sae
from audit.capture.sites import Site
from audit.config import AuditConfig, ExecutorKind, PromptFormat
from audit.controls import FrozenControl, load_controls
from audit.digests import digest_bytes
from audit.errors import ConfigError
from audit.evidence.store import ACTIVATIONS, Store
from audit.progress import Progress
from audit.records import SuiteRecord
from probes.schema import Arm, Suite

# What stands for a token whose text is withheld: a reader sees that something is there, and how strongly it fires.
WITHHELD_PIECE = "\u25a0"


@dataclass(frozen=True, slots=True)
class Instrument:
    """A trained SAE at its place, with the controls of equal shape that are captured beside it.

    Args:
        control: the untrained one.
        frozen: the one that was trained with its decoder frozen at random directions, or None where there is none.
    """

    fitted: Fitted
    control: Fitted
    frozen: Fitted | None = None

    @property
    def sae(self) -> Sae:
        """Return the trained one."""
        return self.fitted.sae

    @property
    def site(self) -> Site:
        """Return where they all read."""
        return self.fitted.site

    @property
    def controls(self) -> tuple[Fitted, ...]:
        """Return its controls, the untrained one first."""
        return (self.control,) if self.frozen is None else (self.control, self.frozen)


@dataclass(frozen=True, slots=True)
class Subject:
    """The loaded parts of an audit, checked against each other before anything is run.

    Args:
        instruments: the first is the one that the summary speaks of.
        calibrations: outlier limit and sample of each site that is read.
        neurons: site that an instrument reads -> the MLP neurons of its layer, where the model has them.
        control_sources: name of a frozen control -> where it is.
        prompts: every scenario arm in every frame.
        questions: the outcome prompts with the token ids of their continuations.
    """

    suites: tuple[Suite, ...]
    model: LoadedModel
    instruments: tuple[Instrument, ...]
    calibrations: Mapping[Site, Calibration]
    neurons: Mapping[Site, Site]
    control_sources: Mapping[str, str]
    prompt_format: PromptFormat
    prompts: tuple[TokenisedPrompt, ...]
    questions: tuple[tuple[TokenisedPrompt, OutcomeTokens], ...]

    @property
    def stations(self) -> tuple[Station, ...]:
        """Return what is captured: at each site its instruments, their controls and the neurons."""
        fitted = [one for instrument in self.instruments for one in (instrument.fitted, *instrument.controls)]
        return stations(fitted, self.calibrations, neurons=self.neurons)

    @property
    def controls(self) -> tuple[Sae, ...]:
        """Return the controls of all instruments, each once."""
        found = {one.sae.record.name: one.sae for instrument in self.instruments for one in instrument.controls}
        return tuple(found.values())

    @property
    def suite_records(self) -> tuple[SuiteRecord, ...]:
        """Return what was run of each suite."""
        return tuple(
            SuiteRecord(
                id=suite.id,
                title=suite.title,
                version=suite.version,
                digest=suite.digest,
                concepts=tuple(concept.id for concept in suite.concepts),
                scenarios=sum(len(concept.scenarios) for concept in suite.concepts),
                prompts=sum(p.prompt.suite == suite.id for p in self.prompts),
                subset=suite.subset,
                withheld=suite.withheld,
            )
            for suite in self.suites
        )


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the model said, besides the shards.

    Args:
        limits: SAE name -> the residual norm above which a position was excluded at its site.
        splices: SAE name -> what each spliced prompt lost.
    """

    limits: dict[str, float]
    outcomes: tuple[OutcomeLogits, ...]
    splices: dict[str, tuple[SplicedPrompt, ...]]


def load_subject(suites: tuple[Suite, ...], config: AuditConfig, progress: Progress) -> Subject:
    """Load model and SAE and tokenise every prompt, so that each thing that cannot fit is refused before work starts.

    Raises:
        AffidavitError: the model is missing, the SAE belongs to another model, a prompt is too long, an outcome is
        not one
            token.
    """
    if config.capture.executor is ExecutorKind.RAY:
        require_ray()
    saes = [load_sae(source) for source in expand_sources(config.sae.sources)]
    _require_distinct(saes)
    progress.say("loading the model")
    model = load_model(config.model, say=progress.say)
    fitted = [fit_sae(sae, model) for sae in saes]
    controls = load_controls(config.sae.controls, fitted, model)
    prompt_format = resolve_format(model, config.probes.format)
    prompts = list_prompts(suites)
    continuations = {
        concept.id: outcome_tokens(model, concept, concept.outcome)
        for suite in suites
        for concept in suite.concepts
        if concept.outcome is not None
    }
    questions = list_outcome_prompts(suites, first_id=len(prompts))
    tokenised = tuple(tokenise(model, prompt, prompt_format) for prompt in prompts)
    sites = dict.fromkeys(site for one in fitted for site in one.sites)
    calibrations = calibrate(model, sites, tokenised, factor=config.capture.outlier_norm_factor)
    return Subject(
        suites=suites,
        model=model,
        instruments=tuple(
            _instrument(one, controls.get(one.sae.record.name), calibrations, seed=config.analysis.seed)
            for one in fitted
        ),
        calibrations=calibrations,
        neurons=neurons_beside(model, dict.fromkeys(one.site for one in fitted)),
        control_sources={one.fitted.sae.record.name: one.source for one in controls.values()},
        prompt_format=prompt_format,
        prompts=tokenised,
        questions=tuple((tokenise(model, q, prompt_format), continuations[q.concept]) for q in questions),
    )


def gather(subject: Subject, config: AuditConfig, folder: Path, progress: Progress) -> Gathered:
    """Run every prompt; sparse rows go to shards in the folder, finished ones are not run again.

    Args:
        subject: what to run.
        config: batch size, outlier factor, fidelity sample.
        folder: the unfinished bundle.
        progress: listener.
    """
    model = subject.model
    batch_tokens = config.capture.batch_tokens or model.batch_tokens
    shards = folder / ACTIVATIONS
    shards.mkdir(exist_ok=True)
    stations_read = subject.stations
    jobs = plan_jobs(model, stations_read, subject.prompts, batch_tokens=batch_tokens)
    with progress.stage("capturing activations", total=len(subject.prompts)) as advance:
        executor = _executor(subject, LocalExecutor(model, stations_read), config, batch_tokens=batch_tokens)
        keys = capture(jobs, executor, folder=shards, advance=advance, say=progress.say)
    _remove_foreign_shards(shards, set(keys))
    with progress.stage("asking outcome questions", total=len(subject.questions)) as advance:
        outcomes = answer_outcomes(
            model, subject.questions, batch_tokens=batch_tokens, advance=advance, say=progress.say
        )
    sample = fidelity_sample(subject, scenarios=config.fidelity.spliced_scenarios)
    with progress.stage("measuring fidelity", total=len(sample) * len(subject.instruments)) as advance:
        splices = {
            instrument.sae.record.name: splice(
                model,
                _station_of(instrument, subject),
                sample,
                batch_tokens=batch_tokens,
                ablation=instrument.fitted.ablation(subject.calibrations),
                seed=config.analysis.seed,
                advance=advance,
                say=progress.say,
            )
            for instrument in subject.instruments
        }
    limits = {i.sae.record.name: subject.calibrations[i.site].outlier_limit for i in subject.instruments}
    return Gathered(limits, outcomes, splices)


def _executor(subject: Subject, local: LocalExecutor, config: AuditConfig, *, batch_tokens: int) -> Executor:
    if config.capture.executor is ExecutorKind.LOCAL:
        return local
    sources = expand_sources(config.sae.sources)
    instruments = [
        InstrumentRecipe(
            source,
            subject.calibrations[i.site].scale,
            i.fitted.typical_count(subject.calibrations),
            *i.fitted.centres(subject.calibrations),
            frozen=None if i.frozen is None else subject.control_sources[i.frozen.sae.record.name],
        )
        for source, i in zip(sources, subject.instruments, strict=True)
    ]
    limits = {site: found.outlier_limit for site, found in subject.calibrations.items()}
    recipe = Recipe(config.model, tuple(instruments), limits, config.analysis.seed, subject.neurons)
    return RayExecutor(local, recipe.build, subject.prompts, batch_tokens=batch_tokens, workers=config.capture.workers)


def _station_of(instrument: Instrument, subject: Subject) -> Station:
    (station,) = stations((instrument.fitted,), subject.calibrations)
    return station


def _require_distinct(saes: Sequence[Sae]) -> None:
    names = [sae.record.name for sae in saes]
    if len(set(names)) < len(names):
        raise ConfigError(
            item="sae.sources",
            expected="SAEs of different names",
            found=", ".join(names),
            hint="Rename one in its card, or name it once.",
        )


def _instrument(
    fitted: Fitted, frozen: FrozenControl | None, calibrations: Mapping[Site, Calibration], *, seed: int
) -> Instrument:
    ready = fitted.calibrated(calibrations)
    centre, bias = ready.centres(calibrations)
    count = ready.typical_count(calibrations)
    untrained = with_control(ready, k=count, seed=seed, centre=centre, bias=bias)
    return Instrument(*untrained, frozen=None if frozen is None else frozen.fitted.calibrated(calibrations))


def fill_store(store: Store, subject: Subject, gathered: Gathered) -> None:
    """Write suites, prompts, tokens, shards, outcomes and splices into an empty evidence store."""
    concepts = [(suite, concept) for suite in subject.suites for concept in suite.concepts]
    prompts = [*subject.prompts, *(question for question, _ in subject.questions)]
    store.insert(
        "suite",
        [
            {
                "suite": s.id,
                "title": s.title,
                "domain": s.domain,
                "version": s.version,
                "digest": s.digest,
                "subset": s.subset,
                "withheld": s.withheld,
            }
            for s in subject.suites
        ],
    )
    store.insert(
        "sae",
        [
            {"sae": s.name, "site": s.site, "target": s.target, "role": role, "latents": s.latents, "digest": s.digest}
            for role, saes in (("instrument", [i.sae for i in subject.instruments]), ("control", subject.controls))
            for s in (sae.record for sae in saes)
        ],
    )
    store.insert(
        "concept",
        [
            {"concept": c.id, "suite": s.id, "domain": c.domain, "title": c.title, "frames": len(s.frames)}
            for s, c in concepts
        ],
    )
    store.insert(
        "scenario",
        [
            {"scenario": scenario.id, "concept": c.id, "split": scenario.split.value, "number": number}
            for _, c in concepts
            for number, scenario in enumerate(c.scenarios)
        ],
    )
    salts = {suite.id: suite.salt for suite in subject.suites}
    store.insert("prompt", [_prompt_row(t.prompt, salts[t.prompt.suite]) for t in prompts])
    store.insert(
        "token",
        [
            {
                "prompt": t.prompt.id,
                "position": position,
                "piece": WITHHELD_PIECE if content and salts[t.prompt.suite] is not None else piece,
                "content": content,
            }
            for t in prompts
            for position, (piece, content) in enumerate(zip(t.pieces, t.content, strict=True))
        ],
    )
    store.insert(
        "outcome", [{"prompt": o.prompt, "target_logit": o.target, "foil_logit": o.foil} for o in gathered.outcomes]
    )
    store.insert(
        "splice", [{"sae": name, **asdict(row)} for name, spliced in gathered.splices.items() for row in spliced]
    )
    store.ingest_shards()


def _prompt_row(prompt: Prompt, salt: str | None) -> dict[str, object]:
    return {
        "prompt": prompt.id,
        "concept": prompt.concept,
        "scenario": prompt.scenario,
        "split": prompt.split.value,
        "arm": prompt.arm.value,
        "frame": prompt.frame,
        "text": prompt.text if salt is None else f"withheld:{digest_bytes((salt + prompt.text).encode())}",
    }


def fidelity_sample(subject: Subject, *, scenarios: int) -> list[TokenisedPrompt]:
    """Return the three main arms, in the first frame, of scenarios spread evenly over each concept."""
    chosen: list[TokenisedPrompt] = []
    for suite in subject.suites:
        for concept in suite.concepts:
            count = min(scenarios, len(concept.scenarios))
            ids = {concept.scenarios[number * len(concept.scenarios) // count].id for number in range(count)}
            chosen += [
                p
                for p in subject.prompts
                if p.prompt.scenario in ids
                and p.prompt.frame == suite.frames[0].name
                and p.prompt.arm in (Arm.CONCEPT, Arm.CONTROL, Arm.NEUTRAL)
            ]
    return chosen


def _remove_foreign_shards(folder: Path, keys: set[str]) -> None:
    """Delete shards of an earlier run with other inputs: evidence holds what this audit captured, nothing else."""
    for path in folder.iterdir():
        if path.name.split(".")[0] not in keys:
            path.unlink()
