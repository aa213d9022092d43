"""An untouched prompt as an SAE sees it, and the changes of its activation that can be made from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.capture.batches import SharedPrefix
from audit.capture.encoder import SparseRows
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.capture.runner import Station
from audit.capture.sae import Sae
from audit.errors import EvidenceError, ShapeMismatch


@dataclass(frozen=True, slots=True)
class Delta:
    """What is added to the activation at the site.

    Args:
        positions: (p,) int64, ascending, each once, counted from the prompt's first token, the template included.
        vectors: (p, d) float32.
    """

    positions: Tensor
    vectors: Tensor

    @classmethod
    def none(cls, width: int) -> Delta:
        """Return the change of nothing."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(0, width))

    @property
    def empty(self) -> bool:
        """Tell whether no position is changed."""
        return not len(self.positions)


def combined(deltas: Sequence[Delta]) -> Delta:
    """Return the sum of one or more changes."""
    device = max(deltas, key=lambda delta: len(delta.positions)).vectors.device
    positions = torch.cat([delta.positions.to(device) for delta in deltas])
    vectors = torch.cat([delta.vectors.to(device) for delta in deltas])
    places, where = torch.unique(positions, return_inverse=True)
    total = vectors.new_zeros(len(places), vectors.shape[1])
    return Delta(places, total.index_add_(0, where, vectors))


@dataclass(frozen=True, slots=True)
class Fired:
    """An SAE's code of one prompt.

    Args:
        kept: (k,) int64 positions, content within the outlier limit; ascending.
        source: (k, d) float32, the activation there.
        rows: what fired; `token` counts along `kept`.
    """

    sae: Sae
    kept: Tensor
    source: Tensor
    rows: SparseRows

    def maxima(self, *, before: int | None = None) -> Tensor:
        """Return (latents,) float32, the largest activation of each latent, at positions before one where it is given.

        0 where it is silent.
        """
        latent, activation = self.rows.latent, self.rows.activation
        if before is not None:
            early = self.kept[self.rows.token] < before
            latent, activation = latent[early], activation[early]
        largest = activation.new_zeros(self.sae.record.latents)
        return largest.scatter_reduce_(0, latent, activation, "amax")


@dataclass(frozen=True, slots=True)
class Held:
    """One prompt with what its untouched pass gave.

    Args:
        prompt: the prompt.
        tokens: its outcome's continuations.
        outcome: logit of the target minus logit of the foil at the last position, in nats.
        fired: the SAE's code at the site.
        later: the later SAE's code, or None where there is no such SAE.
        entering: (positions, width), what enters the first layer that runs again, from the prefix on; None where the
            model is run whole.
        prefix: what several prompts share in front.
    """

    prompt: TokenisedPrompt
    tokens: OutcomeTokens
    outcome: float
    fired: Fired
    later: Fired | None
    entering: Tensor | None
    prefix: SharedPrefix

    @property
    def positions(self) -> int:
        """Return how many tokens the prompt has, template included."""
        return len(self.prompt.ids)

    @property
    def downstream(self) -> NDArray[np.float32] | None:
        """Return (latents,) float32, the largest activation of each feature of the later SAE; None without one."""
        if self.later is None:
            return None
        maxima: NDArray[np.float32] = self.later.maxima().cpu().numpy()
        return maxima

    def maximum(self, latent: int) -> float:
        """Return the latent's largest activation over the kept positions, 0 where it is silent."""
        found = self.fired.rows.activation[self.fired.rows.latent == latent]
        return float(found.max()) if len(found) else 0.0

    @property
    def told(self) -> NDArray[np.bool_]:
        """Return (k,) which of the kept positions belong to the scenario's own text, not to the question about it."""
        own: NDArray[np.bool_] = np.array(self.prompt.scenario_text)[self.fired.kept.cpu().numpy()]
        return own

    def lowering(self, latent: int, ceiling: float) -> Delta:
        """Return what brings a latent down to a ceiling in the scenario's text: x' = x - max(0, a - ceiling) d.

        The words of a question are left as they are: they name the concept in the matched arm too. The other latents'
        share of the activation and the SAE's error stay what they are. Nothing where the latent is nowhere above.

        Args:
            latent: which.
            ceiling: in units of the activation, at least 0: its largest value in the matched arm; 0 turns it off.
        """
        fired = self.fired
        own = (fired.rows.latent == latent) & (fired.rows.activation > ceiling)
        own &= torch.from_numpy(self.told).to(own.device)[fired.rows.token]
        token = fired.rows.token[own]
        excess = (fired.rows.activation[own] - ceiling) * fired.sae.token_scale(fired.source[token])
        return Delta(fired.kept[token], -excess[:, None] * fired.sae.w_dec[latent])

    def removing_error(self) -> Delta:
        """Return what puts the SAE's reconstruction in the activation's place at the kept positions."""
        fired = self.fired
        rebuilt = fired.sae.decode(fired.rows, fired.source)
        return Delta(fired.kept, rebuilt - fired.source)

    def pushed(self, direction: Tensor, like: Delta) -> Delta:
        """Return a change of the same norm at each position as another one, in a direction, (d,) of any norm above 0.

        Raises:
            ShapeMismatch: the direction has another width than the site.
        """
        width = self.fired.source.shape[1]
        if tuple(direction.shape) != (width,):
            raise ShapeMismatch(
                item="direction of a sham",
                expected=f"({width},)",
                found=str(tuple(direction.shape)),
                hint="Draw it in the space of the site's activation.",
            )
        unit = (direction / direction.norm()).to(like.vectors)
        return Delta(like.positions, like.vectors.norm(dim=1, keepdim=True) * unit)


def fire(station: Station, activation: Tensor, prompt: TokenisedPrompt, start: int) -> Fired:
    """Return an SAE's code at the kept positions of a prompt, from its activation behind a prefix, (positions, d).

    Raises:
        EvidenceError: NaN or infinity at the prompt's own words, or none of them is kept.
    """
    (sae,) = station.saes
    content = torch.tensor(prompt.content[start:], device=activation.device)
    wide = activation.float()
    if not bool(torch.isfinite(wide[content]).all()):
        raise not_finite(f"activations at {station.site}", prompt)
    kept = (content & (wide.norm(dim=-1) <= station.outlier_limit)).nonzero()[:, 0]
    if not len(kept):
        raise EvidenceError(
            item=prompt.label,
            expected="at least one token of its own that is not an outlier",
            found="none",
            hint="The text is empty for this tokenizer, or capture.outlier_norm_factor is too strict.",
        )
    source = wide[kept]
    return Fired(sae, kept + start, source, sae.encode(source))


def not_finite(what: str, prompt: TokenisedPrompt) -> EvidenceError:
    """Return the error for numbers of a prompt that are not finite."""
    return EvidenceError(
        item=f"{what}, {prompt.label}",
        expected="finite numbers",
        found="NaN or infinity",
        hint='Run with model.dtype = "fp32"; if it persists the weights are damaged.',
    )
