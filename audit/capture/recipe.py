"""What another process needs to make the same stations from the same files: names, numbers and two vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from audit.capture.fitting import Fitted, fit_sae, stations_within
from audit.capture.jobs import LocalExecutor
from audit.capture.model import load_model
from audit.capture.sae import random_directions
from audit.capture.sae_sources import load_sae
from audit.capture.sites import Site
from audit.config import ModelConfig


@dataclass(frozen=True, slots=True)
class InstrumentRecipe:
    """An SAE with its controls.

    Args:
        source: where the SAE is.
        scale: the factor to a mean norm of sqrt(d) at its site, for an SAE whose files do not say it.
        control_k: how many latents of the untrained control fire at a token.
        centre, bias: (d_in,) and (d_out,) float32, what the untrained control subtracts and adds.
        frozen: where its control with a frozen random decoder is, or None.
    """

    source: str
    scale: float
    control_k: int
    centre: Tensor
    bias: Tensor
    frozen: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Model and instruments of a capture, with what was measured before it.

    Args:
        limits: site -> the norm above which a position is excluded and counted.
        seed: of the untrained controls' directions.
        neurons: site -> the neurons that are read beside it.
    """

    model: ModelConfig
    instruments: tuple[InstrumentRecipe, ...]
    limits: Mapping[Site, float]
    seed: int
    neurons: Mapping[Site, Site] = field(default_factory=dict)

    def build(self) -> LocalExecutor:
        """Load model and SAEs and return the executor that runs jobs with them.

        Raises:
            AffidavitError: the model or an SAE is not on this machine, or they do not fit together.
        """
        model = load_model(self.model)
        fitted: list[Fitted] = []
        for one in self.instruments:
            ready = fit_sae(load_sae(one.source), model).scaled(one.scale)
            fitted += with_control(ready, k=one.control_k, seed=self.seed, centre=one.centre, bias=one.bias)
            if one.frozen is not None:
                fitted.append(fit_sae(load_sae(one.frozen), model).scaled(one.scale))
        return LocalExecutor(model, stations_within(fitted, self.limits, neurons=self.neurons))


def with_control(fitted: Fitted, *, k: int, seed: int, centre: Tensor, bias: Tensor) -> tuple[Fitted, Fitted]:
    """Return an SAE and, at the same place, an untrained one of equal shape.

    Args:
        fitted: the trained one, its scale known.
        k: how many latents of the control fire at a token.
        seed: of its directions.
        centre: (d_in,) float32, subtracted from the input.
        bias: (d_out,) float32, added to the output; `Fitted.centres` gives both.
    """
    return fitted, replace(fitted, sae=random_directions(fitted.sae, k=k, seed=seed, centre=centre, bias=bias))
