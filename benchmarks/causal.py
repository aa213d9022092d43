"""What interventions cost: the batched engine against the plain way, one whole forward pass an intervention.

    OMP_NUM_THREADS=1 python -m benchmarks.causal
    OMP_NUM_THREADS=1 python -m benchmarks.causal --prompts 12 --rounds 5 --json causal.json

The default model with its shipped SAEs at layers 15 and 20, on outcome questions of the shipped suites. In each prompt
as many features as asked for, drawn among those that fire in it, are set to zero alone, and half as many pairs of them
together. Both ways begin with the untouched pass and answer the same: the outcome, the divergence, and the largest
activations of the later SAE's features.

The plain way is transformers' forward pass with a hook, on the audit's own kernels; it computes the logits of the last
position only, as the engine does. Both take turns prompt by prompt, several rounds long. A way's time is the sum over
prompts of the shortest time in any round: what it costs while nothing else runs. The ratio of the two is what counts on
a busy machine.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.capture.fitting import fit_sae
from audit.capture.interventions import Delta, Held, Interventions, Responses, combined
from audit.capture.model import LoadedModel, load_model
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt, list_outcome_prompts, outcome_tokens, tokenise
from audit.capture.runner import Station, calibrate
from audit.capture.sae_sources import SHIPPED, load_sae
from audit.capture.sites import replaced_site
from audit.config import ModelConfig, ProbeConfig, PromptFormat
from benchmarks.capture import Timed, measure
from probes.loader import load_suites

_OUTLIER_FACTOR = 10.0
# Prompts of a turn.
_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    `ratio` is the plain way's time over the engine's. `layers_and_positions` is the part of it that comes from work
    left out: layers times positions of the plain way over those of the engine. The rest comes from batching. The
    differences are the largest between the two ways: of the outcome and the divergence in nats, of a later feature's
    activation over the largest one.
    """

    machine: str
    threads: int
    prompts: int
    tokens: float
    interventions: int
    rounds: int
    engine_ms: float
    plain_ms: float
    ratio: float
    layers_and_positions: float
    forwards_per_second: float
    plain_forwards_per_second: float
    engine_scatter: float
    plain_scatter: float
    outcome_difference: float
    kl_difference: float
    downstream_difference: float


@dataclass(frozen=True, slots=True)
class Setting:
    """The default model, its two SAEs at their sites, and questions that are put to it."""

    model: LoadedModel
    first: Station
    second: Station
    asked: tuple[tuple[TokenisedPrompt, OutcomeTokens], ...]


def make_setting(*, prompts: int) -> Setting:
    """Return the setting with questions spread evenly over the shipped suites."""
    model, suites = load_model(ModelConfig()), load_suites(ProbeConfig().suites)
    outcomes = {
        concept.id: outcome_tokens(model, concept, concept.outcome)
        for suite in suites
        for concept in suite.concepts
        if concept.outcome is not None
    }
    listed = list_outcome_prompts(suites, first_id=0)
    chosen = listed[:: max(1, len(listed) // prompts)][:prompts]
    asked = tuple((tokenise(model, one, PromptFormat.CHAT), outcomes[one.concept]) for one in chosen)
    fitted = [fit_sae(load_sae(name), model) for name in SHIPPED]
    limits = calibrate(model, [one.site for one in fitted], [prompt for prompt, _ in asked], factor=_OUTLIER_FACTOR)
    first, second = (Station(one.site, (one.sae,), limits[one.site].outlier_limit) for one in fitted)
    return Setting(model, first, second, asked)


def draw(held: Held, *, features: int, rng: np.random.Generator) -> tuple[Delta, ...]:
    """Return some features of a prompt set to zero, each alone, and half as many pairs of them."""
    fired = torch.unique(held.fired.rows.latent).tolist()
    latents = rng.choice(fired, size=min(features, len(fired)), replace=False)
    single = [held.lowering(int(latent), 0.0) for latent in latents]
    pairs = [combined([single[n], single[n + 1]]) for n in range(0, len(single) - 1, 2)]
    return (*single, *pairs)


def answer_plainly(setting: Setting, held: Held, deltas: Sequence[Delta]) -> Responses:
    """Answer by one whole forward pass an intervention, after an untouched one."""
    model, site, later = setting.model, setting.first.site, setting.second
    ids = torch.tensor([held.prompt.ids], device=model.device)
    seen: list[Tensor] = []

    def note(activation: Tensor) -> Tensor:
        seen[:] = [activation]
        return activation

    def ask(delta: Delta) -> Tensor:
        def change(activation: Tensor) -> Tensor:
            changed = activation.clone()
            changed[0, delta.positions] += delta.vectors
            return changed

        with replaced_site(model.layers, site, change), replaced_site(model.layers, later.site, note):
            logits: Tensor = model.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1].double()
            return logits

    sae, kept = later.saes[0], held.later.kept if held.later is not None else held.fired.kept
    outcomes: list[float] = []
    divergences: list[float] = []
    maxima: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        clean = torch.log_softmax(ask(Delta.none(setting.model.record.width)), dim=-1)
        for delta in deltas:
            logits = ask(delta)
            changed = torch.log_softmax(logits, dim=-1)
            outcomes.append(float(logits[held.tokens.target] - logits[held.tokens.foil]))
            divergences.append(float((clean.exp() * (clean - changed)).sum()))
            rows = sae.encode(seen[0][0, kept].float())
            largest = torch.zeros(sae.record.latents, device=kept.device)
            maxima.append(largest.scatter_reduce_(0, rows.latent, rows.activation, "amax").cpu().numpy())
    return Responses(np.array(outcomes), np.array(divergences), np.stack(maxima))


def measure_ways(setting: Setting, *, features: int, rounds: int, batch_tokens: int, seed: int) -> Figures:
    """Run both ways in turn on the same interventions."""
    model, rng = setting.model, np.random.default_rng(seed)
    engine = Interventions(model, setting.first, downstream=setting.second, batch_tokens=batch_tokens)
    everything = engine.hold(setting.asked)
    work = [
        (asked, held, draw(held, features=features, rng=rng))
        for asked, held in zip(setting.asked, everything, strict=True)
    ]
    count = sum(len(deltas) for _, _, deltas in work)

    found: dict[str, dict[int, Responses]] = {"engine": {}, "plain": {}}

    def batched(numbers: Sequence[int]) -> None:
        everyone = engine.hold([work[n][0] for n in numbers])
        answers = engine.run_all([(held, work[n][2]) for n, held in zip(numbers, everyone, strict=True)])
        found["engine"].update(zip(numbers, answers, strict=True))

    def plainly(numbers: Sequence[int]) -> None:
        found["plain"].update({n: answer_plainly(setting, work[n][1], work[n][2]) for n in numbers})

    before = engine.spent
    turns = [range(begin, min(begin + _TOGETHER, len(work))) for begin in range(0, len(work), _TOGETHER)]
    times = measure(
        {"engine": [partial(batched, turn) for turn in turns], "plain": [partial(plainly, turn) for turn in turns]},
        rounds=rounds,
    )
    # The round that warms up is work too.
    spent = (engine.spent - before) / (rounds + 1)
    pairs = [(found["engine"][n], found["plain"][n]) for n in range(len(work))]
    return _figures(times, pairs, spent=spent, count=count, everything=everything)


def _figures(
    times: dict[str, Timed],
    pairs: Sequence[tuple[Responses, Responses]],
    *,
    spent: float,
    count: int,
    everything: Sequence[Held],
) -> Figures:
    lengths = [held.positions for held in everything]
    plain_work = sum(
        (len(ours.outcome) + 1) * length for (ours, _), length in zip(pairs, lengths, strict=True)
    ) / np.mean(lengths)
    engine, plain = times["engine"].quiet, times["plain"].quiet
    later = [(ours.downstream, other.downstream) for ours, other in pairs]
    return Figures(
        machine=platform.machine(),
        threads=torch.get_num_threads(),
        prompts=len(everything),
        tokens=float(np.mean(lengths)),
        interventions=count,
        rounds=len(times["engine"].seconds[0]),
        engine_ms=1000 * engine / count,
        plain_ms=1000 * plain / count,
        ratio=plain / engine,
        layers_and_positions=float(plain_work / spent),
        forwards_per_second=spent / engine,
        plain_forwards_per_second=float(plain_work / plain),
        engine_scatter=times["engine"].scatter,
        plain_scatter=times["plain"].scatter,
        outcome_difference=max(float(np.abs(ours.outcome - other.outcome).max()) for ours, other in pairs),
        kl_difference=max(float(np.abs(ours.kl - other.kl).max()) for ours, other in pairs),
        downstream_difference=max(
            float(np.abs(ours - other).max() / other.max())
            for ours, other in later
            if ours is not None and other is not None
        ),
    )


@click.command()
@click.option("--prompts", type=click.IntRange(1), default=6, show_default=True, help="Outcome questions.")
@click.option("--features", type=click.IntRange(2), default=48, show_default=True, help="Lowered in each prompt.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns that each way takes.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Positions a batch; the device's own number if left out.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the features.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the figures.")
def main(*, prompts: int, features: int, rounds: int, batch_tokens: int | None, seed: int, path: Path | None) -> None:
    """Measure what interventions cost."""
    start = time.perf_counter()
    setting = make_setting(prompts=prompts)
    figures = measure_ways(
        setting,
        features=features,
        rounds=rounds,
        batch_tokens=batch_tokens or setting.model.batch_tokens,
        seed=seed,
    )
    for name, value in asdict(figures).items():
        print(f"{name.replace('_', ' '):<28}{value:.4g}" if isinstance(value, float) else f"{name:<28}{value}")
    print(f"{'seconds in all':<28}{time.perf_counter() - start:.0f}")
    if path is not None:
        path.write_text(json.dumps(asdict(figures), indent=1))


if __name__ == "__main__":
    main()
