"""The training loop: a TopK sparse autoencoder with exact sparse gradients.

Architecture and auxiliary loss are those of Gao et al. 2024 (arXiv 2406.04093). With k of n latents active, the
forward pass of the decoder and both weight gradients touch k / n of the weights only: the decoder is an embedding bag,
the gradients are products with a compressed sparse matrix, and the encoder's one dense product is the whole dense
cost. Nothing is approximated but the arithmetic of that product, which may run in bf16.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from audit.capture.sae import random_decoder
from audit.errors import OutputError, TooLarge, TrainingDiverged
from audit.training.harvest import Activations

_SCALE_ROWS = 50_000
_WATCHED_ROWS = 16_000
_WATCH_BLOCK = 4096
_ADAM_STATE = ("exp_avg", "exp_avg_sq")
_PARAMETERS = ("w_enc", "b_enc", "w_dec", "b_dec")


@dataclass(frozen=True, slots=True)
class TopKRecipe:
    """What decides the weights, besides the activations.

    Args:
        latents: width of the SAE.
        k: how many latents may fire at a position.
        updates: positions seen in all, repeats included.
        batch: positions a step.
        learning_rate: of Adam at its peak.
        warmup_steps: steps of linear rise.
        decay_share: share of the steps, at the end, over which the rate falls linearly to 2% of its peak.
        dead_after: a latent that has not fired for so many positions gets the auxiliary loss.
        auxiliary_weight: weight of that loss.
        auxiliary_latents: how many dead latents a step revives at most.
        decoder_seed: None, or the seed of a random decoder that stays as it is: the control of Korznikov et al. 2026
            (arXiv 2602.14111).
        seed: of the initial weights and the order of the data.
        encoder_dtype: arithmetic of the dense product, `bf16` or `fp32`.
    """

    latents: int
    k: int
    updates: int
    seed: int
    batch: int = 4096
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    decay_share: float = 0.6
    dead_after: int = 400_000
    auxiliary_weight: float = 1 / 32
    auxiliary_latents: int = 512
    decoder_seed: int | None = None
    encoder_dtype: str = "bf16"

    @property
    def steps(self) -> int:
        """Return how many optimiser steps the updates make."""
        return max(1, self.updates // self.batch)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The state of the training at one step; FVU is on held-out tokens, loss on the step's own batch."""

    step: int
    updates: int
    loss: float
    fvu_plain: float | None
    fvu_chat: float | None
    dead: int


def require_memory(recipe: TopKRecipe, width: int) -> None:
    """Refuse a training that this machine cannot hold.

    Raises:
        TooLarge: weights, gradients, Adam's moments and the dense product of a batch exceed the free memory.
    """
    weights = 2 * recipe.latents * width + recipe.latents + width
    # Weights, their gradients twice (as computed, as clipped) and Adam's two moments; then one batch; then the sample
    # that gives the scale.
    copies = 5 * weights * 4 + (2 * weights if recipe.encoder_dtype == "bf16" else 0)
    dense = recipe.batch * recipe.latents * (4 + (6 if recipe.encoder_dtype == "bf16" else 4))
    sparse = recipe.batch * recipe.k * 48 + recipe.batch * width * 24
    needed = copies + max(dense + sparse, _SCALE_ROWS * width * 12)
    if torch.cuda.is_available():
        free, where = torch.cuda.mem_get_info()[0], "GPU memory"
    else:
        free, where = psutil.virtual_memory().available, "memory"
    if needed > free:
        raise TooLarge(
            item=f"an SAE of {recipe.latents:,} latents on width {width}, {recipe.batch:,} positions a step",
            expected=f"{needed / 1e9:.1f} GB of {where}",
            found=f"{free / 1e9:.1f} GB free",
            hint="Choose fewer --latents or a smaller --batch.",
        )


class TopKTrainer:
    """The weights on their way, with everything that a resumed run needs.

    Positions are centred and scaled to norm sqrt(d_model) on average while they are trained on; `exported` folds the
    scale back. The decoder's rows have norm 1 after every step, and their gradient has no radial part.

    Args:
        recipe: hyperparameters.
        train: activations to learn from.
        held: activations to watch by.
        device: where to compute.
    """

    def __init__(self, recipe: TopKRecipe, train: Activations, held: Activations, *, device: torch.device) -> None:
        self.recipe = recipe
        self.step = 0
        self.curve: list[CurvePoint] = []
        self._train, self._held, self._device = train, held, device
        sample = train.read(np.unique(self._rng("scale").integers(0, len(train), _SCALE_ROWS)))
        mean, width = sample.mean(0), sample.shape[1]
        self.width = int(width)
        self.scale = math.sqrt(width) / float((sample - mean).norm(dim=1).mean())
        self._variance = float(((sample - mean) * self.scale).pow(2).sum(1).mean())
        generator = torch.Generator().manual_seed(recipe.seed)
        decoder = torch.randn(recipe.latents, width, generator=generator)
        decoder /= decoder.norm(dim=1, keepdim=True)
        if recipe.decoder_seed is not None:
            decoder = random_decoder(recipe.latents, width, seed=recipe.decoder_seed)
        start = {
            "w_enc": decoder * 0.5,
            "b_enc": torch.zeros(recipe.latents),
            "w_dec": decoder.clone(),
            "b_dec": mean * self.scale,
        }
        self._weights = {name: start[name].to(device).requires_grad_() for name in _PARAMETERS}
        for weight in self._weights.values():
            weight.grad = torch.zeros_like(weight)
        moving = [w for name, w in self._weights.items() if name != "w_dec" or recipe.decoder_seed is None]
        self._optimiser = torch.optim.Adam(moving, lr=recipe.learning_rate, eps=6.25e-10, fused=True)
        self._last_fired = torch.zeros(recipe.latents, dtype=torch.int64, device=device)

    def advance(self) -> float:
        """Take one step and return its loss, the fraction of variance unexplained of its batch.

        Raises:
            TrainingDiverged: the loss is NaN or infinite; the weights are those before the step.
        """
        recipe = self.recipe
        rows = self._rng("batch", self.step).integers(0, len(self._train), recipe.batch)
        batch = self._train.read(np.sort(rows)).to(self._device) * self.scale
        with torch.no_grad():
            loss = self._fill_gradients(batch)
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    item=f"step {self.step + 1} of {recipe.steps}",
                    expected="a finite loss",
                    found=str(loss),
                    hint="Delete the unfinished checkpoint.safetensors and train with a lower --learning-rate.",
                )
            for group in self._optimiser.param_groups:
                group["lr"] = self._learning_rate()
            self._optimiser.step()
            if recipe.decoder_seed is None:
                self._weights["w_dec"] /= self._weights["w_dec"].norm(dim=1, keepdim=True)
        self.step += 1
        return loss

    def watch(self, loss: float) -> CurvePoint:
        """Measure FVU on held-out tokens and add a point to the curve."""
        dead = int((self.step * self.recipe.batch - self._last_fired > self.recipe.dead_after).sum())
        plain, chat = (self._held_out_fvu(chat=chat) for chat in (False, True))
        point = CurvePoint(self.step, self.step * self.recipe.batch, round(loss, 4), plain, chat, dead)
        self.curve.append(point)
        return point

    def exported(self) -> dict[str, Tensor]:
        """Return the weights in bf16 for unscaled activations: b_enc and b_dec divided by the scale.

        x / s goes in and a / s comes out, so w_enc and the unit decoder stay as they are. A frozen decoder is left
        out: its seed gives it back.
        """
        weights = {name: weight.detach().cpu() for name, weight in self._weights.items()}
        weights["b_enc"] = weights["b_enc"] / self.scale
        weights["b_dec"] = weights["b_dec"] / self.scale
        if self.recipe.decoder_seed is not None:
            del weights["w_dec"]
        return {name: weight.bfloat16().contiguous() for name, weight in weights.items()}

    def save(self, path: Path, *, key: str) -> None:
        """Write a checkpoint in one step; an interrupted write never carries the name.

        Args:
            path: the file.
            key: what the training is of; a checkpoint of something else is not resumed.

        Raises:
            OutputError: no room.
        """
        tensors = {name: weight.detach() for name, weight in self._weights.items()}
        tensors["last_fired"] = self._last_fired
        for name, weight in self._weights.items():
            state = self._optimiser.state.get(weight, {})
            tensors |= {f"{name}.{moment}": state[moment] for moment in _ADAM_STATE if moment in state}
        metadata = {
            "key": key,
            "step": str(self.step),
            "curve": json.dumps([asdict(point) for point in self.curve]),
        }
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, unfinished, metadata=metadata)
            with unfinished.open("rb") as stream:
                os.fsync(stream.fileno())
            unfinished.replace(path)
        except (OSError, SafetensorError) as error:
            unfinished.unlink(missing_ok=True)
            raise OutputError(
                item=str(path), expected="room to write a checkpoint", found=str(error), hint="Free space, run again."
            ) from error

    def resume(self, path: Path, *, key: str) -> bool:
        """Load a checkpoint of the same training; return False where there is none.

        Raises:
            OutputError: the checkpoint is of another training.
        """
        if not path.exists():
            return False
        try:
            with safe_open(path, framework="pt") as stored:
                metadata = stored.metadata()
                tensors = {name: stored.get_tensor(name).to(self._device) for name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise OutputError(
                item=str(path),
                expected="a whole checkpoint",
                found=str(error),
                hint="The disk damaged it; delete it and the training starts again.",
            ) from error
        if metadata.get("key") != key:
            raise OutputError(
                item=str(path),
                expected="a checkpoint of this training",
                found="one with other data or hyperparameters",
                hint="Choose another --out, or delete the unfinished folder.",
            )
        for name, weight in self._weights.items():
            weight.detach().copy_(tensors[name])
            moments = {moment: tensors[f"{name}.{moment}"] for moment in _ADAM_STATE if f"{name}.{moment}" in tensors}
            if moments:
                taken = torch.tensor(float(metadata["step"]), device=self._device)
                self._optimiser.state[weight] = {"step": taken, **moments}
        self._last_fired.copy_(tensors["last_fired"])
        self.step = int(metadata["step"])
        self.curve = [CurvePoint(**point) for point in json.loads(metadata["curve"])]
        return True

    def _rng(self, *purpose: str | int) -> np.random.Generator:
        # Stateless: a resumed step draws what it would have drawn.
        words = [part if isinstance(part, int) else int.from_bytes(part.encode(), "big") for part in purpose]
        return np.random.default_rng([self.recipe.seed, *words])

    def _learning_rate(self) -> float:
        recipe, done = self.recipe, self.step / self.recipe.steps
        warm = min(1.0, (self.step + 1) / recipe.warmup_steps)
        fall = 1.0 if done < 1 - recipe.decay_share else max(0.02, (1 - done) / recipe.decay_share)
        return recipe.learning_rate * warm * fall

    def _fill_gradients(self, batch: Tensor) -> float:
        """Write the gradients of all weights for a (batch, d_model) block and return its loss."""
        recipe = self.recipe
        w_enc, b_enc, w_dec, b_dec = (self._weights[name].detach() for name in _PARAMETERS)
        centred = batch - b_dec
        pre = self._encoder_product(centred, w_enc) + b_enc
        values, latents = pre.topk(recipe.k, dim=1, sorted=False)
        values = values.relu()
        error = functional.embedding_bag(latents, w_dec, per_sample_weights=values, mode="sum") + b_dec - batch
        grad_out = error * (2 / (len(batch) * self._variance))
        grad_values = self._value_gradients(grad_out, latents, w_dec) * (values > 0)
        scatter = _Scatter(latents, recipe.latents)
        gradients = {
            "w_enc": scatter.product(grad_values, centred),
            "b_enc": torch.zeros_like(b_enc).index_add_(0, latents.flatten(), grad_values.flatten()),
            "w_dec": scatter.product(values, grad_out),
        }
        gradients["b_dec"] = grad_out.sum(0) - gradients["b_enc"] @ w_enc
        squared = float(error.pow(2).sum())
        self._note_fired(latents[values > 0])
        self._add_auxiliary(gradients, pre=pre, error=error, centred=centred, squared=squared)
        if recipe.decoder_seed is None:
            gradients["w_dec"] -= (gradients["w_dec"] * w_dec).sum(1, keepdim=True) * w_dec
        else:
            gradients["w_dec"].zero_()
        norm = torch.sqrt(sum((g.pow(2).sum() for g in gradients.values()), torch.zeros((), device=self._device)))
        shrink = 1 / norm.clamp(min=1.0)
        for name, gradient in gradients.items():
            torch.mul(gradient, shrink, out=self._weights[name].grad)
        return squared / (len(batch) * self._variance)

    def _encoder_product(self, centred: Tensor, w_enc: Tensor) -> Tensor:
        if self.recipe.encoder_dtype == "bf16":
            return (centred.bfloat16() @ w_enc.bfloat16().T).float()
        return centred @ w_enc.T

    def _value_gradients(self, grad_out: Tensor, latents: Tensor, w_dec: Tensor) -> Tensor:
        """Return (batch, k) inner products of the output's gradient with the active decoder rows."""
        ones = torch.zeros(latents.shape, device=self._device).requires_grad_()
        with torch.enable_grad():
            mixed = functional.embedding_bag(latents, w_dec, per_sample_weights=ones, mode="sum")
            (gradient,) = torch.autograd.grad(mixed, ones, grad_out)
        return gradient

    def _note_fired(self, fired: Tensor) -> None:
        self._last_fired[fired] = (self.step + 1) * self.recipe.batch

    def _add_auxiliary(
        self, gradients: dict[str, Tensor], *, pre: Tensor, error: Tensor, centred: Tensor, squared: float
    ) -> None:
        """Add AuxK (Gao et al. 2024, appendix A.2): dead latents learn to reproduce what the live ones leave over."""
        recipe = self.recipe
        dead = ((self.step + 1) * recipe.batch - self._last_fired > recipe.dead_after).nonzero().flatten()
        if not len(dead) or self.step < recipe.warmup_steps // 2:
            return
        if len(dead) > recipe.auxiliary_latents:
            drawn = self._rng("revive", self.step).permutation(len(dead))[: recipe.auxiliary_latents]
            dead = dead[torch.from_numpy(np.sort(drawn)).to(self._device)]
        w_dec = self._weights["w_dec"].detach()[dead]
        values, places = pre[:, dead].topk(min(len(dead), recipe.k * 4), dim=1, sorted=False)
        active = torch.zeros(len(centred), len(dead), device=self._device).scatter_(1, places, values.relu())
        grad_out = (active @ w_dec + error) * (recipe.auxiliary_weight * 2 / max(squared, 1e-9))
        grad_active = (grad_out @ w_dec.T) * (active > 0)
        gradients["w_dec"][dead] += active.T @ grad_out
        gradients["w_enc"][dead] += grad_active.T @ centred
        gradients["b_enc"][dead] += grad_active.sum(0)

    def _held_out_fvu(self, *, chat: bool) -> float | None:
        rows = np.flatnonzero(self._held.chat == chat)
        rows = rows[:: max(1, len(rows) // (_WATCHED_ROWS // 2))]
        if len(rows) < 2:
            return None
        w_enc, b_enc, w_dec, b_dec = (self._weights[name].detach() for name in _PARAMETERS)
        residual = self._held.read(rows).to(self._device) * self.scale
        missed = 0.0
        for block in torch.split(residual, _WATCH_BLOCK):
            values, latents = ((block - b_dec) @ w_enc.T + b_enc).topk(self.recipe.k, dim=1, sorted=False)
            bag = functional.embedding_bag(latents, w_dec, per_sample_weights=values.relu(), mode="sum")
            missed += float((bag + b_dec - block).pow(2).sum())
        return round(missed / float((residual - residual.mean(0)).pow(2).sum()), 4)


class _Scatter:
    """Products of a (latents, batch) sparse matrix, given by the active latents of each position.

    Args:
        latents: (batch, k) int64, the active latents.
        count: how many latents there are.
    """

    def __init__(self, latents: Tensor, count: int) -> None:
        flat = latents.flatten()
        self._order = torch.argsort(flat, stable=True)
        self._rows = functional.pad(torch.bincount(flat, minlength=count).cumsum(0), (1, 0))
        self._columns = self._order // latents.shape[1]
        self._shape = (count, len(latents))

    def product(self, values: Tensor, dense: Tensor) -> Tensor:
        """Return (latents, d_model): for each latent the sum over positions of value times dense row."""
        with warnings.catch_warnings():
            # torch calls its sparse matrices a beta; a test compares these gradients with dense ones.
            warnings.filterwarnings("ignore", message="Sparse (CSR|invariant)")
            matrix = torch.sparse_csr_tensor(self._rows, self._columns, values.flatten()[self._order], self._shape)
            return matrix @ dense
