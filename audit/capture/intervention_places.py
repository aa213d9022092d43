"""Where interventions can be made, and where a second SAE may read what they change."""

from __future__ import annotations

from audit.capture.model import LoadedModel
from audit.capture.runner import Station
from audit.capture.sites import Site, SiteKind
from audit.errors import ConfigError, SaeInvalid


def require_place(model: LoadedModel, station: Station, downstream: Station | None) -> None:
    """Refuse stations at which nothing could be changed or read.

    Raises:
        ConfigError: the site has no later layers, or the second SAE stands before the first.
        SaeInvalid: the SAE is a transcoder, or a station has not exactly one.
    """
    for one in (station, downstream):
        if one is not None and len(one.saes) != 1:
            raise SaeInvalid(
                item=f"station at {one.site}",
                expected="one SAE",
                found=f"{len(one.saes)}",
                hint="Interventions go through one SAE at a time.",
            )
    (sae,) = station.saes
    target = station.targets.get(sae.record.name, station.site)
    if target != station.site:
        raise SaeInvalid(
            item=sae.record.name,
            expected="an SAE that writes where it reads",
            found=f"a transcoder from {station.site} to {target}",
            hint="Choose an SAE of one site for interventions.",
        )
    depth, layers = order_of(station.site), len(model.layers)
    if depth[0] >= layers or (station.site.layer == layers - 1 and station.site.kind is not SiteKind.RESID_PRE):
        raise ConfigError(
            item=f"site {station.site}",
            expected="a site with layers behind it",
            found=f"the last of {layers} layers: a site without later layers",
            hint="Choose an SAE of an earlier layer for interventions.",
        )
    if downstream is not None and order_of(downstream.site) <= depth:
        raise ConfigError(
            item=f"second SAE at {downstream.site}",
            expected=f"a site behind {station.site}",
            found="a second SAE before the first",
            hint="Name the SAE of the earlier layer first.",
        )


def order_of(site: Site) -> tuple[int, int]:
    """Return the order of sites; the output of a layer is the input of the next."""
    return (Site(SiteKind.RESID_PRE, site.layer + 1) if site.kind is SiteKind.RESID_POST else site).depth
