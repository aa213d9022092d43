"""Our SAE training loop against the TopK trainer of SAELens: tokens a second, and FVU after equally many tokens.

Both run in one process and take turns, a block of steps each, so a busy machine slows both alike; the ratio is the
median over rounds of the times of neighbouring blocks. Both see the same batches in the same order, read from the
same files, with the same number of latents, the same k and the same batch size. SAELens is driven through its own
public classes (`TopKTrainingSAE`, `SAETrainer.step`), with its own optimiser and auxiliary loss.

SAELens is no dependency of this project and must be installed separately, best in an environment of its own:

    python -m venv lens && lens/bin/pip install . sae-lens
    lens/bin/affidavit sae train --site resid_post.15 --corpus corpus.jsonl.zst --out sae --latents 4608 \
        --activations activations
    OMP_NUM_THREADS=1 lens/bin/python -m benchmarks.sae_training --activations activations --updates 400000

Rivals, chosen with --rival (repeatable; the first three are the default):

- `default`: every setting as SAELens documents it: learning rate 3e-4, constant, float32, activations as they are.
- `our-rate`: our peak learning rate, warm-up and decay, else as `default`.
- `scaled`: as `our-rate`, with its `expected_average_only_in`: activations at norm sqrt(d_model), as ours are.
- `sparse`: as `scaled`, with its `use_sparse_activations`, and without its `rescale_acts_by_decoder_norm`: torch has
  no gradient for the two together (sae-lens 6.54, torch 2.13, CPU).
- `autocast`: as `scaled`, with its bf16 `autocast`.
- `ours-fp32`: our own loop without bf16 in the encoder's product.

What to know when reading the figures: our weights are measured as exported, in bf16. Our warm-up of 200 steps is cut
to a tenth of the run where the run is short. Adam and reading the batch are inside the timed steps, start-up and
the measuring of FVU are not; the first round is not timed. A run of fewer than 1,000 steps never reaches SAELens's
auxiliary loss, ours sets in after 400,000 tokens: shorter runs time neither. Everything runs on the CPU.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from audit.errors import AffidavitError
from audit.training.harvest import Activations
from audit.training.topk import TopKRecipe, TopKTrainer

try:
    from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
except ImportError as error:
    _LENS_PROBLEM: str | None = str(error)
else:
    _LENS_PROBLEM = None

_CPU = torch.device("cpu")
_SCALE_ROWS = 50_000
_HELD_ROWS = 8192
_MEASURED_SHARES = (0.25, 0.5, 0.75, 1.0)
_RIVALS = ("default", "our-rate", "scaled", "sparse", "autocast", "ours-fp32")


class Contender(Protocol):
    """A training that can be advanced step by step."""

    name: str

    def step(self) -> None:
        """Take one optimiser step on the next batch."""

    def reconstruct(self, residual: Tensor) -> Tensor:
        """Return x_hat, (tokens, d_model) float32, of unscaled activations."""


class DrawnRows(Activations):
    """Consecutive rows of one side of a harvest, which remembers what was drawn so that another can draw the same.

    Args:
        side: of a harvest.
        rows: which of its rows.
    """

    def __init__(self, side: Activations, rows: range) -> None:
        self._side = side
        self._rows = rows
        self.chat = side.chat[rows.start : rows.stop]
        self.drawn: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return (len(rows), d_model) float32 and remember the rows."""
        self.drawn.append(rows)
        return self._side.read(rows + self._rows.start)

    def replay(self) -> Iterator[Tensor]:
        """Yield the batches that were drawn, in order; it must stay behind the one who draws."""
        for rows in self.drawn:
            yield self._side.read(rows + self._rows.start)

    def forgetful(self) -> DrawnRows:
        """Return the same rows with a memory of their own."""
        return DrawnRows(self._side, self._rows)

    def spread(self, count: int) -> Tensor:
        """Return up to `count` evenly spaced rows, without remembering them."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))
        return self._side.read(rows + self._rows.start)


@dataclass(frozen=True, slots=True)
class Sides:
    """What is trained on, what is measured by, and where the latter comes from."""

    train: DrawnRows
    held: DrawnRows
    held_is: str


@dataclass(slots=True)
class Timing:
    """Seconds of the timed blocks of one contender, and its FVU at each measured share of the run."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    fvu: list[float] = field(default_factory=list)


class OurTraining:
    """Our own loop, by its defaults.

    Args:
        name: for the table.
        recipe: hyperparameters.
        sides: activations; what it draws is remembered there.
    """

    def __init__(self, name: str, recipe: TopKRecipe, sides: Sides) -> None:
        self.name = name
        self._k = recipe.k
        self._trainer = TopKTrainer(recipe, sides.train, sides.held, device=_CPU)
        sides.train.drawn.clear()

    def step(self) -> None:
        """Take one step."""
        self._trainer.advance()

    def reconstruct(self, residual: Tensor) -> Tensor:
        """Return x_hat by the exported bf16 weights, computed in float32."""
        weights = {name: weight.float() for name, weight in self._trainer.exported().items()}
        pre = torch.addmm(weights["b_enc"], residual - weights["b_dec"], weights["w_enc"].T)
        values, latents = pre.topk(self._k, dim=1, sorted=False)
        bag = functional.embedding_bag(latents, weights["w_dec"], per_sample_weights=values.relu(), mode="sum")
        return bag + weights["b_dec"]


class LensTraining:
    """SAELens's trainer, fed with the batches that ours has drawn.

    Args:
        name: one of the rivals.
        recipe: ours, for sizes and, beyond `default`, for the learning rate.
        sides: activations.
    """

    def __init__(self, name: str, recipe: TopKRecipe, sides: Sides) -> None:
        self.name = f"sae-lens {name}"
        sample = sides.train.spread(_SCALE_ROWS)
        scaled = name in {"scaled", "sparse", "autocast"}
        torch.manual_seed(recipe.seed)
        sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=sample.shape[1],
                d_sae=recipe.latents,
                k=recipe.k,
                use_sparse_activations=name == "sparse",
                rescale_acts_by_decoder_norm=name != "sparse",
                normalize_activations="expected_average_only_in" if scaled else "none",
            )
        )
        config = SAETrainerConfig(
            total_training_samples=recipe.steps * recipe.batch,
            train_batch_size_samples=recipe.batch,
            autocast=name == "autocast",
        )
        if name != "default":
            config.lr = recipe.learning_rate
            config.lr_warm_up_steps = recipe.warmup_steps
            config.lr_decay_steps = int(recipe.steps * recipe.decay_share)
        # The trainer wants a number; its runner's own default. A constant schedule does not use it.
        config.lr_end = config.lr / 10
        self._batches = sides.train.replay()
        self._trainer = SAETrainer(cfg=config, sae=sae, data_provider=self._batches)
        if scaled:
            blocks = torch.split(sample, recipe.batch)
            self._trainer.activation_scaler.estimate_scaling_factor(sample.shape[1], iter(blocks), len(blocks))

    def step(self) -> None:
        """Take one step, as a turn of `SAETrainer.fit` does."""
        self._trainer.maybe_reset_sparsity()
        self._trainer.step(next(self._batches))
        self._trainer.n_training_steps += 1

    def reconstruct(self, residual: Tensor) -> Tensor:
        """Return x_hat by the float32 weights as they stand."""
        scaler = self._trainer.activation_scaler
        rebuilt: Tensor = scaler.unscale(self._trainer.sae(scaler.scale(residual)))
        return rebuilt


@click.command()
@click.option(
    "--activations",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder made by `affidavit sae train --activations`.",
)
@click.option("--latents", type=click.IntRange(2), default=4608, show_default=True, help="Width of the SAE.")
@click.option("--k", type=click.IntRange(1), default=32, show_default=True, help="Latents that may fire at a token.")
@click.option("--batch", type=click.IntRange(2), default=4096, show_default=True, help="Tokens a step.")
@click.option("--updates", type=click.IntRange(1), default=400_000, show_default=True, help="Tokens, per trainer.")
@click.option("--block", type=click.IntRange(1), default=5, show_default=True, help="Steps before the next one's turn.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of torch.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights and batches.")
@click.option(
    "--rival",
    "rivals",
    type=click.Choice(_RIVALS),
    multiple=True,
    default=_RIVALS[:3],
    show_default=True,
    help="Whom to measure against. Repeatable.",
)
def main(
    *,
    activations: Path,
    latents: int,
    k: int,
    batch: int,
    updates: int,
    block: int,
    threads: int,
    seed: int,
    rivals: tuple[str, ...],
) -> None:
    """Measure our SAE training loop against SAELens's."""
    if _LENS_PROBLEM is not None:
        raise click.ClickException(f"sae-lens cannot be imported ({_LENS_PROBLEM}): pip install sae-lens")
    if k > latents:
        raise click.UsageError(f"--k {k} exceeds --latents {latents}")
    torch.set_num_threads(threads)
    sides = _open_sides(activations)
    recipe = TopKRecipe(latents=latents, k=k, updates=updates, seed=seed, batch=batch)
    recipe = replace(recipe, warmup_steps=max(1, min(recipe.warmup_steps, recipe.steps // 10)))
    _print_setting(recipe, sides, block=block)
    try:
        contenders = [OurTraining("ours", recipe, sides), *(_rival(name, recipe, sides) for name in rivals)]
        timings = _race(contenders, sides, steps=recipe.steps, block=block)
    except AffidavitError as error:
        raise click.ClickException(str(error)) from error
    _print_table(contenders, timings, updates_a_block=block * batch)


def _open_sides(folder: Path) -> Sides:
    """Open a harvest; one without a held-out side, as while it is being made, gives up the last part of `train`."""
    if not any(folder.glob("train-*.rows.npy")):
        raise click.ClickException(
            f"{folder} holds no activations: make them with `affidavit sae train --activations {folder}`"
        )
    try:
        train = Activations(folder, "train")
        if any(folder.glob("held-*.rows.npy")):
            held = Activations(folder, "held")
            return Sides(
                DrawnRows(train, range(len(train))), DrawnRows(held, range(len(held))), "the harvest's held-out side"
            )
        last = len(np.load(max(folder.glob("train-*.rows.npy")), mmap_mode="r"))
    except FileNotFoundError as error:
        raise click.ClickException(f"{folder} is being written ({error.filename} is missing): run again") from error
    cut = len(train) - last
    if cut <= 0:
        raise click.ClickException(f"{folder} has no held-out side, and only one part of `train`: harvest more tokens")
    return Sides(
        DrawnRows(train, range(cut)),
        DrawnRows(train, range(cut, len(train))),
        "NO held-out side: the last part of `train`, not trained on",
    )


def _rival(name: str, recipe: TopKRecipe, sides: Sides) -> Contender:
    if name == "ours-fp32":
        # The same seed draws the same rows, and they must not be remembered twice.
        return OurTraining(name, replace(recipe, encoder_dtype="fp32"), replace(sides, train=sides.train.forgetful()))
    return LensTraining(name, recipe, sides)


def _race(contenders: Sequence[Contender], sides: Sides, *, steps: int, block: int) -> list[Timing]:
    """Train all contenders in turns, ours first: the others replay what it drew."""
    residual = sides.held.spread(_HELD_ROWS)
    timings = [Timing() for _ in contenders]
    marks = [max(1, round(share * steps)) for share in _MEASURED_SHARES]
    done = 0
    while done < steps:
        size = min(block, steps - done)
        for contender, timing in zip(contenders, timings, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(size):
                contender.step()
            # A whole block, and not the first: that one pays for allocations and kernel look-ups.
            if done > 0 and size == block:
                timing.wall_s.append(time.perf_counter() - wall)
                timing.cpu_s.append(time.process_time() - cpu)
        for _ in range(sum(done < mark <= done + size for mark in marks)):
            for contender, timing in zip(contenders, timings, strict=True):
                timing.fvu.append(_fvu(contender, residual))
        done += size
    return timings


@torch.no_grad()
def _fvu(contender: Contender, residual: Tensor) -> float:
    missed = sum(float((contender.reconstruct(rows) - rows).pow(2).sum()) for rows in torch.split(residual, 2048))
    return missed / float((residual - residual.mean(0)).pow(2).sum())


def _print_setting(recipe: TopKRecipe, sides: Sides, *, block: int) -> None:
    width = sides.train.spread(1).shape[1]
    print(f"versions     sae-lens {version('sae-lens')}, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"machine      {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) used")
    print(f"activations  {len(sides.train):,} x {width} to train on")
    print(f"fvu          on {min(len(sides.held), _HELD_ROWS):,} of {len(sides.held):,} rows; {sides.held_is}")
    print(f"sae          {recipe.latents:,} latents, k {recipe.k}, batch {recipe.batch:,}, seed {recipe.seed}")
    print(
        f"run          {recipe.steps:,} steps = {recipe.steps * recipe.batch:,} updates each, blocks of {block} steps"
    )
    print(f"our rate     {recipe.learning_rate:g}, warm-up {recipe.warmup_steps}, decay over {recipe.decay_share:.0%}")


def _print_table(contenders: Sequence[Contender], timings: Sequence[Timing], *, updates_a_block: int) -> None:
    shares = "  ".join(f"{share:>6.0%}" for share in _MEASURED_SHARES)
    print(f"\n{'':<18}  {'updates/s':>9}  {'per CPU s':>9}  {'ours is':>7}  FVU at {shares}")
    for contender, timing in zip(contenders, timings, strict=True):
        fvu = "  ".join(f"{value:6.4f}" for value in timing.fvu)
        speed = " " * 9 + "-" + " " * 10 + "-" + " " * 8 + "-"
        if timing.wall_s:
            wall, cpu = (updates_a_block / statistics.median(times) for times in (timing.wall_s, timing.cpu_s))
            ratio = statistics.median(b / a for a, b in zip(timings[0].wall_s, timing.wall_s, strict=True))
            speed = f"{wall:>9,.0f}  {cpu:>9,.0f}  {ratio:>6.2f}x"
        print(f"{contender.name:<18}  {speed}         {fvu}")
    print(f"\n{len(timings[0].wall_s)} timed blocks each; medians.", end=" ")
    print("Per CPU second counts this process's own time, whatever else the machine does.")


if __name__ == "__main__":
    main()
