"""Capture against its rivals and its limits: tokens a second end to end, share of the FLOP floor, peak memory.

Everything runs in one process and takes turns batch by batch, over the same prompts, several rounds long; the first
round is not counted. A contender's time is the sum over its batches of the shortest time that the batch took in any
round: what it costs while nothing else runs, on machines where something else always does. The scatter over rounds is
printed beside it.

    pip install . sae-lens
    python -m benchmarks.capture                 # speed against the rivals, on the default model and SAE
    python -m benchmarks.capture --part widths   # 16x, 100x and a million latents: speed a FLOP, memory
    python -m benchmarks.capture --part growth   # how cost grows with prompts and SAEs

Contenders of the first part:

- `affidavit`: the audit's own capture, from tokens to shards on disk.
- `lens-documented`: SAELens as its documentation shows it: `SAETransformerBridge.run_with_cache`, then `sae.encode` of
  the cached activation; 32 prompts at a time in their own order, padded.
- `lens-tuned`: the same with a names filter, the forward stopped behind the site, our length buckets, and only the
  prompts' own tokens encoded. Neither rival writes anything to disk.
- `bare-forward`: transformers as it comes, cut behind the site, unhooked, on our batches behind the same prefix.
- `forward`, `encoder`: the two products that no capture can do without, with the kernel that the audit uses: the
  forward up to the site on our batches, and the pre-activations of the kept rows.
- The FLOP floor: twice the weights below the site and of the encoder, and the attention, at the fastest matrix product
  measured in the same run; for distinct tokens only, which is what the audit computes, and for every own token of every
  prompt. It leaves out norms, activation functions, selection, decoding and writing.

SAELens runs in its own way too where it cannot share what the audit shares: the chat template in front of each prompt.
The part with `--format plain` has no such prefix.
"""

from __future__ import annotations

import ctypes
import gc
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.capture.batches import Batch, make_batches
from audit.capture.embedded import ensure_default_model
from audit.capture.encoder import Rule, Threshold, TopK
from audit.capture.fitting import Fitted, fit_sae, stations
from audit.capture.jobs import Job, LocalExecutor, capture, plan_jobs
from audit.capture.kernels import linear
from audit.capture.model import LoadedModel, load_model
from audit.capture.prompts import TokenisedPrompt, list_prompts, tokenise
from audit.capture.runner import Calibration, Station, calibrate
from audit.capture.sae import Sae, random_decoder, random_directions
from audit.capture.sae_sources import SHIPPED, load_sae
from audit.capture.sites import Site, read_sites
from audit.config import AuditConfig, ModelConfig, PromptFormat
from probes.loader import load_suites

_DOCUMENTED_BATCH = 32
_TUNED_TOKENS = 1024
_PEAK_SIZE = 2048
_MIB = 1 << 20

Steps = Sequence[Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts with their jobs through some stations."""

    model: LoadedModel
    fitted: tuple[Fitted, ...]
    stations: tuple[Station, ...]
    prompts: tuple[TokenisedPrompt, ...]
    jobs: tuple[Job, ...]

    @property
    def tokens(self) -> int:
        """Return the prompts' own tokens."""
        return sum(sum(prompt.content) for prompt in self.prompts)

    @property
    def sites(self) -> list[Site]:
        """Return every site that is read."""
        return [site for station in self.stations for site in station.sites]

    def capture(self, folder: Path) -> Steps:
        """Return the capture batch by batch, from tokens to a shard in the folder."""
        executor = LocalExecutor(self.model, self.stations)

        def run(job: Job) -> None:
            (key,) = capture((job,), executor, folder=folder)
            for path in folder.glob(f"{key}*"):
                path.unlink()

        return [partial(run, job) for job in self.jobs]

    def forward(self) -> Steps:
        """Return the forward passes up to the highest site, and nothing else."""
        model, sites = self.model, self.sites

        def read(job: Job) -> object:
            return read_sites(model.model, model.layers, sites, job.batch.inputs(model))

        return [partial(read, job) for job in self.jobs]


@dataclass(frozen=True, slots=True)
class Timed:
    """The seconds of each batch of one contender in each round."""

    seconds: tuple[tuple[float, ...], ...]

    @property
    def quiet(self) -> float:
        """Return the sum over batches of the shortest time."""
        return sum(min(times) for times in self.seconds)

    @property
    def scatter(self) -> float:
        """Return the median round over the quiet time: how much the machine was disturbed."""
        return float(statistics.median(sum(times) for times in zip(*self.seconds, strict=True))) / self.quiet


def measure(contenders: dict[str, Steps], *, rounds: int) -> dict[str, Timed]:
    """Run all contenders in turn, a step each, once to warm up and then `rounds` times."""
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in steps] for name, steps in contenders.items()}
    # A contender with fewer, larger steps takes its turn as its share of the work comes up.
    order = sorted(
        (number / len(steps), place, name, number)
        for place, (name, steps) in enumerate(contenders.items())
        for number in range(len(steps))
    )
    for turn in range(rounds + 1):
        for _, _, name, number in order:
            start = time.perf_counter()
            with torch.inference_mode():
                contenders[name][number]()
            if turn:
                seconds[name][number].append(time.perf_counter() - start)
    return {name: Timed(tuple(tuple(times) for times in parts)) for name, parts in seconds.items()}


def peak_steps() -> dict[str, Steps]:
    """Return large float32 products by the audit's kernel and by PyTorch's own: the faster one sets the floor."""
    left, right = torch.randn(_PEAK_SIZE, _PEAK_SIZE), torch.randn(_PEAK_SIZE, _PEAK_SIZE)
    return {
        "product, audit's kernel": [lambda: linear(left, right)] * 4,
        "product, PyTorch's own": [lambda: functional.linear(left, right)] * 4,
    }


def peak_speed(times: dict[str, Timed]) -> float:
    """Return the FLOP a second of the fastest product that was measured."""
    fastest = min(min(step) for name in peak_steps() for step in times[name].seconds)
    return 2 * _PEAK_SIZE**3 / fastest


def floor_flop(work: Workload, saes: Sequence[Sae], *, distinct: bool) -> float:
    """Return the FLOP that a capture of these prompts must do.

    Args:
        work: the prompts with their jobs.
        saes: whose encoders run.
        distinct: count what several prompts of a pack begin with once, as the audit does; otherwise each prompt's own
            tokens each time.
    """
    config = work.model.model.config.get_text_config()  # type: ignore[operator, union-attr]
    layers = max(site.layer for site in work.sites) + 1
    weights = sum(
        module.weight.numel()
        for layer in list(work.model.layers)[:layers]
        for module in layer.modules()
        if isinstance(module, nn.Linear)
    )
    heads = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    encoders = sum(sae.w_enc.numel() for sae in saes)
    if distinct:
        packs: list[Any] = [job.batch for job in work.jobs]
        run, read = sum(len(pack.ids) for pack in packs), sum(len(pack.read) for pack in packs)
        seen = sum(int(pack.sees.sum()) + len(pack.ids) * pack.prefix.length for pack in packs)
    else:
        places = [[n for n, content in enumerate(prompt.content) if content] for prompt in work.prompts]
        run = read = sum(map(len, places))
        seen = sum(place + 1 for own in places for place in own)
    # Each query meets the keys before it, and then the values: 2 products of 2 FLOP.
    return float(2.0 * (run * weights + read * encoders) + layers * 4.0 * heads * seen)


def random_sae(fitted: Fitted, sample: Tensor, *, latents: int, rule: str, active: int, seed: int) -> Sae:
    """Return an untrained SAE of any width on which about `active` latents fire at a token of the sample."""
    width = fitted.sae.record.width
    directions = random_decoder(latents, width, seed=seed)
    centre = sample.mean(0)
    chosen: Rule = TopK(active)
    if rule == "jumprelu":
        pre = linear(sample[:512] - centre, directions[:4096].contiguous())
        bar = torch.quantile(pre.flatten()[:: max(1, pre.numel() // 1_000_000)], 1 - active / latents)
        chosen = Threshold(torch.full((latents,), float(bar)))
    record = replace(
        fitted.sae.record, name=f"{rule}-{latents}", architecture=rule, latents=latents, k=None, digest=f"seed {seed}"
    )
    return Sae(
        w_enc=directions,
        b_enc=torch.zeros(latents),
        w_dec=directions,
        b_dec=centre,
        rule=chosen,
        record=record,
        centre=centre,
    )


def make_workload(
    model: LoadedModel, saes: Sequence[Sae], prompts: Sequence[TokenisedPrompt], calibrations: dict[Site, Calibration]
) -> Workload:
    """Return the prompts as jobs through the SAEs, in batches of the audit's default size."""
    fitted = tuple(fit_sae(sae, model) for sae in saes)
    places = stations(fitted, calibrations)
    jobs = plan_jobs(model, places, prompts, batch_tokens=model.batch_tokens)
    return Workload(model, fitted, places, tuple(prompts), jobs)


def positions_of(job: Job) -> int:
    """Return how many positions the model runs for a job, padding included."""
    batch: Any = job.batch
    return int(batch.ids.numel())


def rows_of(work: Workload) -> dict[Site, list[Tensor]]:
    """Return the kept rows of every batch at every site."""
    rows: dict[Site, list[Tensor]] = {site: [] for site in work.sites}
    for job in work.jobs:
        with torch.inference_mode():
            read = read_sites(work.model.model, work.model.layers, rows, job.batch.inputs(work.model))
        for site, activation in read.items():
            rows[site].append(job.batch.rows(activation))
    return rows


def speed(setting: Setting, folder: Path) -> dict[str, Any]:
    """Compare the default SAE's capture with SAELens, with the bare products and with the FLOP floor."""
    model, prompts = setting.model, setting.prompts
    one = make_workload(model, [load_sae(SHIPPED[0])], prompts, setting.calibrations)
    everything = make_workload(model, setting.default_saes(), prompts, setting.calibrations)
    contenders: dict[str, Steps] = {
        "affidavit": one.capture(folder),
        "forward": one.forward(),
        "encoder": _encoders(one),
        "bare-forward": _bare_forward(one),
        "audit": everything.capture(folder),
        "audit-forward": everything.forward(),
        "audit-encoders": _encoders(everything),
        **(_lens_steps(one) if setting.rivals else {}),
        **peak_steps(),
    }
    times = measure(contenders, rounds=setting.rounds)
    quiet = {name: timed.quiet for name, timed in times.items()}
    peak = peak_speed(times)
    figures: dict[str, Any] = {
        "prompts": len(prompts),
        "own tokens": one.tokens,
        "positions run over own tokens": sum(positions_of(job) for job in one.jobs) / one.tokens,
        "GFLOP/s of the fastest product": peak / 1e9,
        "tokens/s": {name: one.tokens / quiet[name] for name in contenders if not name.startswith("product")},
        "scatter": {name: timed.scatter for name, timed in times.items()},
        "share of the FLOP floor": {
            "distinct tokens only": floor_flop(one, [one.fitted[0].sae], distinct=True) / peak / quiet["affidavit"],
            "every own token": floor_flop(one, [one.fitted[0].sae], distinct=False) / peak / quiet["affidavit"],
        },
        "capture / (forward + encoder)": quiet["affidavit"] / (quiet["forward"] + quiet["encoder"]),
        "capture / (bare forward + encoder)": quiet["affidavit"] / (quiet["bare-forward"] + quiet["encoder"]),
        "default audit / (forward + encoders)": quiet["audit"] / (quiet["audit-forward"] + quiet["audit-encoders"]),
    }
    for rival in ("lens-documented", "lens-tuned"):
        if rival in times:
            figures[f"{rival} / affidavit"] = quiet[rival] / quiet["affidavit"]
    return figures


def _encoders(work: Workload) -> Steps:
    """Return the bare pre-activations of all SAEs, batch by batch."""

    def run(rows: dict[Site, list[Tensor]], number: int) -> None:
        for fitted in work.fitted:
            sae = fitted.sae
            linear(rows[fitted.site][number] - sae.b_dec, sae.w_enc, sae.b_enc)

    kept = rows_of(work)
    return [partial(run, kept, number) for number in range(len(work.jobs))]


def _bare_forward(work: Workload) -> Steps:
    """Return transformers' own forward, cut behind the site, on the same batches behind the same prefix."""
    bare = load_model(ModelConfig())
    for module in bare.model.modules():
        # Back to the plain modules that transformers built.
        if isinstance(module, nn.Linear):
            module.__class__ = nn.Linear
    body: Any = bare.model.get_decoder()  # type: ignore[operator]
    body.layers = body.layers[: max(site.layer for site in work.sites) + 1]

    def run(job: Job) -> object:
        return body(**job.batch.inputs(bare))

    return [partial(run, job) for job in work.jobs]


def _lens_steps(work: Workload) -> dict[str, Steps]:
    """Return SAELens's two ways over the same prompts, its SAE holding the same weights as ours."""
    from sae_lens import TopKSAE, TopKSAEConfig  # noqa: PLC0415 - a rival, not a dependency
    from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge  # noqa: PLC0415

    (ours,) = work.fitted
    site = ours.site
    hook = f"blocks.{site.layer}.hook_out"
    bridge: Any = SAETransformerBridge.boot_transformers(str(ensure_default_model()), device="cpu")
    width, latents = ours.sae.record.width, ours.sae.record.latents
    config = TopKSAEConfig(d_in=width, d_sae=latents, k=int(ours.sae.record.k or 0), apply_b_dec_to_input=True)
    sae: Any = TopKSAE(config)
    state = {"W_enc": ours.sae.w_enc.T, "b_enc": ours.sae.b_enc, "W_dec": ours.sae.w_dec, "b_dec": ours.sae.b_dec}
    sae.load_state_dict({name: tensor.contiguous() for name, tensor in state.items()})
    whole: list[Batch[TokenisedPrompt]] = [
        batch
        for start in range(0, len(work.prompts), _DOCUMENTED_BATCH)
        for batch in make_batches(work.prompts[start : start + _DOCUMENTED_BATCH], batch_tokens=1 << 30)
    ]
    buckets = make_batches(work.prompts, batch_tokens=_TUNED_TOKENS)

    def documented(batch: Batch[TokenisedPrompt]) -> None:
        _, cache = bridge.run_with_cache(batch.ids)
        sae.encode(cache[hook])

    def tuned(batch: Batch[TokenisedPrompt]) -> None:
        _, cache = bridge.run_with_cache(batch.ids, names_filter=hook, stop_at_layer=site.layer + 1)
        sae.encode(cache[hook][batch.content])

    return {
        "lens-documented": [partial(documented, batch) for batch in whole],
        "lens-tuned": [partial(tuned, batch) for batch in buckets],
    }


def widths(setting: Setting, folder: Path) -> dict[str, Any]:
    """Measure JumpReLU and TopK encoders of 16x, 100x and a million latents: speed a FLOP, memory beyond weights."""
    fitted = fit_sae(load_sae(SHIPPED[0]), setting.model)
    sample = setting.calibrations[fitted.site].sample
    works = {
        (rule, factor): make_workload(
            setting.model,
            [random_sae(fitted, sample, latents=factor * sample.shape[1], rule=rule, active=64, seed=factor)],
            setting.prompts,
            setting.calibrations,
        )
        for rule in ("jumprelu", "topk")
        for factor in (16, 100)
    }
    contenders = {f"{rule} {factor}x": work.capture(folder) for (rule, factor), work in works.items()}
    times = measure(contenders | {"forward": works["topk", 16].forward()} | peak_steps(), rounds=setting.rounds)
    base = times["forward"].quiet
    figures: dict[str, Any] = {"GFLOP/s of the fastest product": peak_speed(times) / 1e9}
    ends: dict[tuple[str, int], float] = {}
    alone: dict[tuple[str, int], float] = {}
    for (rule, factor), work in works.items():
        spent = times[f"{rule} {factor}x"].quiet
        flop = 2 * work.tokens * work.fitted[0].sae.w_enc.numel()
        ends[rule, factor], alone[rule, factor] = flop / spent, flop / (spent - base)
        figures[f"{rule} {factor}x"] = {
            "tokens/s end to end": work.tokens / spent,
            "SAE GFLOP/s end to end": flop / spent / 1e9,
            "SAE GFLOP/s without the forward": flop / (spent - base) / 1e9,
            "scatter": times[f"{rule} {factor}x"].scatter,
        }
    for rule in ("jumprelu", "topk"):
        figures[f"{rule}: speed a SAE FLOP, 100x over 16x"] = {
            "end to end": ends[rule, 100] / ends[rule, 16],
            "without the forward": alone[rule, 100] / alone[rule, 16],
        }
    works.clear()
    contenders.clear()
    gc.collect()
    for rule in ("jumprelu", "topk"):
        sae = random_sae(fitted, sample, latents=setting.most_latents, rule=rule, active=64, seed=1)
        figures[f"{rule} {setting.most_latents:,}"] = _memory_of(sae, sample)
        del sae
        gc.collect()
    return figures


def _memory_of(sae: Sae, sample: Tensor) -> dict[str, float]:
    """Return what encoding and decoding 1,024 tokens needs beyond the weights, in MiB, and its FLOP a second.

    The smallest of three peaks: a system that gives back cold pages of the weights in between would count them again.
    """
    rows = sample.repeat(-(-1024 // len(sample)), 1)[:1024].contiguous()
    status = Path("/proc/self/status")
    peaks, seconds = [], []
    with torch.inference_mode():
        fired = sae.encode(rows)
        for _ in range(3):
            gc.collect()
            # What the pass before has freed goes back to the system, or it would not be counted again (glibc).
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            before = psutil.Process().memory_info().rss
            # Resets the high-water mark (Linux: proc(5), clear_refs).
            Path("/proc/self/clear_refs").write_text("5")
            start = time.perf_counter()
            fired = sae.encode(rows)
            seconds.append(time.perf_counter() - start)
            sae.decode(fired, rows)
            high = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            peaks.append(int(high.split()[1]) * 1024 - before)
    return {
        "weights MiB": (sae.w_enc.numel() + (0 if sae.w_dec is sae.w_enc else sae.w_dec.numel())) * 4 / _MIB,
        "beyond the weights MiB": min(peaks) / _MIB,
        "latents active a token": len(fired.token) / len(rows),
        "SAE GFLOP/s": 2 * len(rows) * sae.w_enc.numel() / min(seconds) / 1e9,
    }


def growth(setting: Setting, folder: Path) -> dict[str, Any]:
    """Measure how the time grows with prompts and with SAEs."""
    model, prompts = setting.model, setting.prompts
    main = load_sae(SHIPPED[0])
    works = {
        "half the prompts": make_workload(model, [main], prompts[::2], setting.calibrations),
        "all prompts": make_workload(model, [main], prompts, setting.calibrations),
    }
    for count in (2, 4, 8):
        saes = [replace(main, record=replace(main.record, name=f"copy-{n}")) for n in range(count)]
        works[f"all prompts, {count} SAEs"] = make_workload(model, saes, prompts, setting.calibrations)
    times = measure({name: work.capture(folder) for name, work in works.items()}, rounds=setting.rounds)
    return {
        name: {
            "tokens": work.tokens,
            "seconds": times[name].quiet,
            "over all prompts with one SAE": times[name].quiet / times["all prompts"].quiet,
            "scatter": times[name].scatter,
        }
        for name, work in works.items()
    }


@dataclass(frozen=True, slots=True)
class Setting:
    """What all parts share."""

    model: LoadedModel
    prompts: tuple[TokenisedPrompt, ...]
    calibrations: dict[Site, Calibration]
    rounds: int
    rivals: bool
    most_latents: int

    def default_saes(self) -> list[Sae]:
        """Return what a default audit captures: the shipped SAEs, each with its random directions."""
        trained = [load_sae(name) for name in SHIPPED]
        return [
            sae
            for one in trained
            for sae in (one, random_directions(one, k=int(one.record.k or 0), seed=1, centre=one.b_dec, bias=one.b_dec))
        ]


def make_setting(*, scenarios: int, text_format: str, rounds: int, rivals: bool, most_latents: int) -> Setting:
    """Load the default model and all prompts of so many scenarios of the demonstration's suites, spread evenly."""
    model = load_model(ModelConfig())
    listed = list_prompts(load_suites(AuditConfig().probes.suites, subset="demo"))
    names = list(dict.fromkeys(prompt.scenario for prompt in listed))
    chosen = set(names[:: max(1, len(names) // scenarios)][:scenarios])
    tokenised = tuple(tokenise(model, p, PromptFormat(text_format)) for p in listed if p.scenario in chosen)
    sites = {site for name in SHIPPED for site in fit_sae(load_sae(name), model).sites}
    calibrations = calibrate(model, sites, tokenised, factor=AuditConfig().capture.outlier_norm_factor)
    return Setting(model, tokenised, calibrations, rounds, rivals, most_latents)


@click.command()
@click.option("--part", type=click.Choice(["speed", "widths", "growth"]), default="speed", show_default=True)
@click.option(
    "--scenarios", default=12, show_default=True, help="How many of the demonstration's, all prompts of each."
)
@click.option("--format", "text_format", type=click.Choice([f.value for f in PromptFormat]), default="chat")
@click.option("--rounds", default=5, show_default=True)
@click.option("--rivals/--no-rivals", default=True, help="Whether SAELens runs too; it must be installed.")
@click.option("--most-latents", default=1 << 20, show_default=True, help="Of the widest SAE in `widths`.")
def main(*, part: str, scenarios: int, text_format: str, rounds: int, rivals: bool, most_latents: int) -> None:
    """Measure capture and print the figures as JSON."""
    setting = make_setting(
        scenarios=scenarios, text_format=text_format, rounds=rounds, rivals=rivals, most_latents=most_latents
    )
    with tempfile.TemporaryDirectory() as folder:
        figures = {"speed": speed, "widths": widths, "growth": growth}[part](setting, Path(folder))
    machine = {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "load": psutil.getloadavg()[0],
        "torch": torch.__version__,
        "format": text_format,
        "rounds": rounds,
    }
    click.echo(json.dumps({"machine": machine, part: figures}, indent=1, default=float))


if __name__ == "__main__":
    main()
