"""An SAE put at its place in a loaded model: sites resolved, widths checked, scales estimated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from torch import Tensor

from audit.capture.model import LoadedModel
from audit.capture.runner import Calibration, Station
from audit.capture.sae import InputNorm, Sae
from audit.capture.site_check import check_site
from audit.capture.sites import Site, SiteKind, parse_site
from audit.errors import ShapeMismatch, SiteNotFound

_NO_NEURONS: Mapping[Site, Site] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Fitted:
    """An SAE on the model's device, its sites under their canonical names.

    Args:
        site: where it reads.
        target: what its output stands for: the same, but for transcoders.
    """

    sae: Sae
    site: Site
    target: Site

    @property
    def sites(self) -> tuple[Site, ...]:
        """Return the sites that must be read for it, each once."""
        return (self.site,) if self.site == self.target else (self.site, self.target)

    def calibrated(self, calibrations: Mapping[Site, Calibration]) -> Fitted:
        """Return it with the scale of its inputs estimated, where its files do not say it."""
        return self.scaled(calibrations[self.site].scale)

    def scaled(self, factor: float) -> Fitted:
        """Return it for inputs that its training multiplied by a factor; unchanged where its files say the factor."""
        if not self.sae.awaits_scale:
            return self
        note = f"inputs multiplied by {factor:.6g}, estimated on this run's own text: mean norm to sqrt(d)"
        sae = self.sae.scaled(factor)
        return replace(self, sae=replace(sae, record=replace(sae.record, notes=(*sae.record.notes, note))))

    def ablation(self, calibrations: Mapping[Site, Calibration]) -> Tensor:
        """Return (d_out,) float32, the mean activation where its output belongs."""
        return calibrations[self.target].mean

    def centres(self, calibrations: Mapping[Site, Calibration]) -> tuple[Tensor, Tensor]:
        """Return what the control subtracts from its input, (d_in,), and adds to its output, (d_out,), both float32.

        The trained SAE's own centre and bias in the model's units, or the mean activation where it has none there.
        """
        sae = self.sae
        if sae.centre is None or sae.input_norm is not InputNorm.NONE:
            return calibrations[self.site].mean, calibrations[self.target].mean
        return sae.centre / sae.input_scale, sae.b_dec

    def typical_count(self, calibrations: Mapping[Site, Calibration]) -> int:
        """Return how many latents fire at a token: k, or the rounded mean over the calibration's sample, at least 1."""
        if self.sae.record.k is not None:
            return self.sae.record.k
        sample = calibrations[self.site].sample.to(self.sae.w_enc.device)
        return max(1, round(len(self.sae.encode(sample).token) / max(1, len(sample))))


def fit_sae(sae: Sae, model: LoadedModel) -> Fitted:
    """Find an SAE's place in a model.

    Raises:
        SiteNotFound: the model has no such site.
        ShapeMismatch: the site has another width than the SAE reads or writes.
    """
    site, target = (parse_site(name, layers=len(model.layers)) for name in (sae.record.site, sae.record.target))
    ends = ((site, sae.record.site, sae.record.width), (target, sae.record.target, sae.record.target_width))
    for place, name, width in ends:
        found = check_site(model.model, model.layers, place, name=name)
        if found != width:
            raise ShapeMismatch(
                item=f"SAE {sae.record.name} on {model.record.name}",
                expected=f"activations of width {width} at {place}",
                found=f"width {found}",
                hint="This SAE belongs to another model.",
            )
    record = replace(sae.record, site=str(site), target=str(target))
    return Fitted(replace(sae, record=record).to(model.device), site, target)


def neurons_beside(model: LoadedModel, sites: Iterable[Site]) -> dict[Site, Site]:
    """Return for each site the MLP neurons of its layer; a site in whose layer there are none is left out."""
    found = {}
    for site in sites:
        neurons = Site(SiteKind.MLP_ACT, site.layer)
        try:
            check_site(model.model, model.layers, neurons)
        except SiteNotFound:
            continue
        found[site] = neurons
    return found


def stations(
    fitted: Sequence[Fitted],
    calibrations: Mapping[Site, Calibration],
    *,
    neurons: Mapping[Site, Site] = _NO_NEURONS,
) -> tuple[Station, ...]:
    """Return each site that is read once, with all SAEs that read it, each once.

    Args:
        fitted: the SAEs.
        calibrations: of every site that they read.
        neurons: site -> the neurons that are read beside it.
    """
    return stations_within(fitted, {site: found.outlier_limit for site, found in calibrations.items()}, neurons=neurons)


def stations_within(
    fitted: Sequence[Fitted], limits: Mapping[Site, float], *, neurons: Mapping[Site, Site] = _NO_NEURONS
) -> tuple[Station, ...]:
    """Return each site that is read once, with all SAEs that read it, each once, its outlier limit and its neurons."""
    # One control may stand beside two instruments.
    fitted = list({one.sae.record.name: one for one in fitted}.values())
    sites = dict.fromkeys(one.site for one in fitted)
    return tuple(
        Station(
            site,
            tuple(one.sae for one in fitted if one.site == site),
            limits[site],
            {one.sae.record.name: one.target for one in fitted if one.site == site and one.target != site},
            neurons.get(site),
        )
        for site in sites
    )
