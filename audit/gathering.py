"""The part of an audit that runs the model: capture, outcomes, fidelity, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from audit.capture.fitting import Fitted, neurons_beside, stations
from audit.capture.jobs import Executor, LocalExecutor, capture, plan_jobs
from audit.capture.outputs import OutcomeLogits, SplicedPrompt, answer_outcomes, splice
from audit.capture.prompts import TokenisedPrompt
from audit.capture.ray_executor import RayExecutor
from audit.capture.recipe import ControlRecipe, InstrumentRecipe, Recipe, untrained
from audit.capture.runner import Calibration, Station, calibrate
from audit.capture.sae import Sae
from audit.capture.sae_sources import expand_sources
from audit.capture.sites import Site
from audit.config import AuditConfig, ExecutorKind
from audit.controls import FrozenControl
from audit.evidence.store import ACTIVATIONS
from audit.inputs import Inputs
from audit.progress import Progress
from probes.schema import Arm, Cell, Order


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
class Subject(Inputs):
    """Inputs that were made ready: sites calibrated, each instrument with its controls.

    Args:
        instruments: the first is the one that the summary speaks of.
        calibrations: outlier limit and sample of each site that is read.
        neurons: site that an instrument reads -> the MLP neurons of its layer, where the model has them.
    """

    instruments: tuple[Instrument, ...]
    calibrations: Mapping[Site, Calibration]
    neurons: Mapping[Site, Site]

    @property
    def stations(self) -> tuple[Station, ...]:
        """Return what is captured: at each site its instruments, their controls and the neurons."""
        fitted = [one for instrument in self.instruments for one in (instrument.fitted, *instrument.controls)]
        return stations(fitted, self.calibrations, neurons=self.neurons)

    @property
    def mix_stations(self) -> tuple[Station, ...]:
        """Return what is captured of mixes: the instruments alone, for the placebo is the control there."""
        return stations([instrument.fitted for instrument in self.instruments], self.calibrations)

    @property
    def controls(self) -> tuple[Sae, ...]:
        """Return the controls of all instruments, each once."""
        found = {one.sae.record.name: one.sae for instrument in self.instruments for one in instrument.controls}
        return tuple(found.values())


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


def load_subject(inputs: Inputs, config: AuditConfig) -> Subject:
    """Return the parts of an audit made ready: each site calibrated on a sample, each instrument with its controls."""
    sites = dict.fromkeys(site for one in inputs.fitted for site in one.sites)
    calibrations = calibrate(inputs.model, sites, inputs.prompts, factor=config.capture.outlier_norm_factor)
    return Subject(
        **{field.name: getattr(inputs, field.name) for field in fields(inputs)},
        instruments=tuple(
            _instrument(one, inputs.frozen.get(one.sae.record.name), calibrations, seed=config.analysis.seed)
            for one in inputs.fitted
        ),
        calibrations=calibrations,
        neurons=neurons_beside(inputs.model, dict.fromkeys(one.site for one in inputs.fitted)),
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
    keys: set[str] = set()
    for sweep in _sweeps(subject, config):
        keys |= _capture(subject, sweep, config, shards, progress)
    _remove_foreign_shards(shards, keys)
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


@dataclass(frozen=True, slots=True)
class _Sweep:
    """Prompts that run through one set of stations, and how another process makes these."""

    what: str
    prompts: tuple[TokenisedPrompt, ...]
    stations: tuple[Station, ...]
    recipe: Recipe


def _sweeps(subject: Subject, config: AuditConfig) -> list[_Sweep]:
    """Return the concepts' prompts with every control, and those of the mixes through the trained SAEs alone."""
    sweeps = [_Sweep("activations", subject.prompts, subject.stations, _recipe(subject, config, controlled=True))]
    if subject.mix_prompts:
        recipe = _recipe(subject, config, controlled=False)
        sweeps.append(_Sweep("mixes", subject.mix_prompts, subject.mix_stations, recipe))
    return sweeps


def _recipe(subject: Subject, config: AuditConfig, *, controlled: bool) -> Recipe:
    instruments = []
    for source, one in zip(expand_sources(config.sae.sources), subject.instruments, strict=True):
        scale = subject.calibrations[one.site].scale
        if not controlled:
            instruments.append(InstrumentRecipe(source, scale))
            continue
        frozen = None if one.frozen is None else subject.frozen[one.sae.record.name].source
        control = _control(one.fitted, subject.calibrations)
        instruments.append(InstrumentRecipe(source, scale, control, frozen))
    limits = {site: found.outlier_limit for site, found in subject.calibrations.items()}
    neurons = subject.neurons if controlled else {}
    return Recipe(config.model, tuple(instruments), limits, config.analysis.seed, neurons)


def _executor(subject: Subject, sweep: _Sweep, config: AuditConfig) -> Executor:
    """Return who runs the batches of a sweep, as the configuration says."""
    local = LocalExecutor(subject.model, sweep.stations)
    if config.capture.executor is ExecutorKind.LOCAL:
        return local
    return RayExecutor(
        local,
        sweep.recipe.build,
        sweep.prompts,
        batch_tokens=_batch_tokens(subject, config),
        workers=config.capture.workers,
    )


def _batch_tokens(subject: Subject, config: AuditConfig) -> int:
    return config.capture.batch_tokens or subject.model.batch_tokens


def _capture(subject: Subject, sweep: _Sweep, config: AuditConfig, folder: Path, progress: Progress) -> set[str]:
    """Write the shards of a sweep and return their keys."""
    batch_tokens = _batch_tokens(subject, config)
    jobs = plan_jobs(subject.model, sweep.stations, sweep.prompts, batch_tokens=batch_tokens)
    with progress.stage(f"capturing {sweep.what}", total=len(sweep.prompts)) as advance:
        executor = _executor(subject, sweep, config)
        return set(capture(jobs, executor, folder=folder, advance=advance, say=progress.say))


def _station_of(instrument: Instrument, subject: Subject) -> Station:
    (station,) = stations((instrument.fitted,), subject.calibrations)
    return station


def _instrument(
    fitted: Fitted, frozen: FrozenControl | None, calibrations: Mapping[Site, Calibration], *, seed: int
) -> Instrument:
    ready = fitted.calibrated(calibrations)
    control = untrained(ready, _control(ready, calibrations), seed=seed)
    return Instrument(ready, control, frozen=None if frozen is None else frozen.fitted.calibrated(calibrations))


def _control(fitted: Fitted, calibrations: Mapping[Site, Calibration]) -> ControlRecipe:
    return ControlRecipe(fitted.typical_count(calibrations), *fitted.centres(calibrations))


def fidelity_sample(subject: Subject, *, scenarios: int) -> list[TokenisedPrompt]:
    """Return what is spliced, of scenarios spread evenly over each concept and mix.

    Of a concept the three main arms in the first frame; of a mix both concepts together, the first one in front.
    """
    arms = (Arm.CONCEPT, Arm.CONTROL, Arm.NEUTRAL)
    chosen: list[TokenisedPrompt] = []
    for suite in subject.suites:
        wanted = {(suite.frames[0].name, arm) for arm in arms} | {(Order.A_FIRST.value, Cell.BOTH)}
        for part in suite.parts:
            count = min(scenarios, len(part.scenarios))
            ids = {part.scenarios[number * len(part.scenarios) // count].id for number in range(count)}
            chosen += [
                p
                for p in (*subject.prompts, *subject.mix_prompts)
                if p.prompt.scenario in ids and (p.prompt.frame, p.prompt.arm) in wanted
            ]
    return chosen


def _remove_foreign_shards(folder: Path, keys: set[str]) -> None:
    """Delete shards of an earlier run with other inputs: evidence holds what this audit captured, nothing else."""
    for path in folder.iterdir():
        if path.name.split(".")[0] not in keys:
            path.unlink()
