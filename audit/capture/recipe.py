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
class ControlRecipe:
    """An untrained SAE of the trained one's shape.

    Args:
        k: how many of its latents fire at a token.
        centre, bias: (d_in,) and (d_out,) float32, what it subtracts from its input and adds to its output;
            `Fitted.centres` gives both.
    """

    k: int
    centre: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class InstrumentRecipe:
    """An SAE with the controls that run beside it.

    Args:
        source: where the SAE is.
        scale: the factor to a mean norm of sqrt(d) at its site, for an SAE whose files do not say it.
        control: the untrained one, or None.
        frozen: where its control with a frozen random decoder is, or None.
    """

    source: str
    scale: float
    control: ControlRecipe | None = None
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
            fitted.append(ready)
            if one.control is not None:
                fitted.append(untrained(ready, one.control, seed=self.seed))
            if one.frozen is not None:
                fitted.append(fit_sae(load_sae(one.frozen), model).scaled(one.scale))
        return LocalExecutor(model, stations_within(fitted, self.limits, neurons=self.neurons))


def untrained(fitted: Fitted, control: ControlRecipe, *, seed: int) -> Fitted:
    """Return the untrained control of an SAE whose scale is known, at the same place.

    Args:
        fitted: the trained one.
        control: what the control is made of.
        seed: of its directions.
    """
    sae = random_directions(fitted.sae, k=control.k, seed=seed, centre=control.centre, bias=control.bias)
    return replace(fitted, sae=sae)
