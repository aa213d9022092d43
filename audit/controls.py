"""Trained controls: SAEs whose decoder stayed at random directions, each beside the instruments of its own shape.

What an SAE shows that one with a frozen random decoder shows as well does not come from the directions that it learnt
(Korznikov et al. 2026, arXiv 2602.14111).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.capture.fitting import Fitted, fit_sae
from audit.capture.model import LoadedModel
from audit.capture.sae_sources import SHIPPED_CONTROLS, certificate_folder, load_sae
from audit.capture.site_names import read_name
from audit.capture.sites import Site
from audit.certification import was_measured_on
from audit.config import DEFAULT_SOURCE
from audit.errors import ConfigError
from audit.records import SaeRecord


@dataclass(frozen=True, slots=True)
class FrozenControl:
    """A control with the source that another process finds it by."""

    source: str
    fitted: Fitted


def load_controls(
    sources: Sequence[str], instruments: Sequence[Fitted], model: LoadedModel
) -> dict[str, FrozenControl]:
    """Return the control of each instrument that has one, by the instrument's name.

    A control belongs to the instruments that read the site that it reads, answer for the same target and have as many
    latents of the same width. One may belong to several.

    Args:
        sources: those of the configuration. What `default` stands for is left out where it fits nothing, where it was
            trained on another model, and where it is audited as an instrument itself.
        instruments: the audited SAEs.
        model: the audited model.

    Raises:
        ConfigError: a control that was named fits no instrument, fits one that has a control already, or has the name
            of another SAE of the audit.
        AffidavitError: a control is missing or damaged, or its site is not what its name says.
    """
    found: dict[str, FrozenControl] = {}
    taken = {one.sae.record.name for one in instruments}
    for named in sources:
        is_default = named == DEFAULT_SOURCE
        for source in SHIPPED_CONTROLS if is_default else (named,):
            sae = load_sae(source)
            beside = [one.sae.record.name for one in instruments if _belongs(sae.record, one)]
            if is_default and not (
                beside and sae.record.name not in taken and was_measured_on(certificate_folder(source), model.record)
            ):
                continue
            _require_place(named, sae.record, instruments, beside=beside)
            _require_free(named, sae.record.name, taken=taken, beside=beside, found=found)
            taken.add(sae.record.name)
            found |= dict.fromkeys(beside, FrozenControl(source, fit_sae(sae, model)))
    return found


def _belongs(control: SaeRecord, instrument: Fitted) -> bool:
    names = (read_name(control.site), read_name(control.target))
    places = [Site(name.kind, name.layer) for name in names if name is not None]
    record = instrument.sae.record
    return places == [instrument.site, instrument.target] and _shape(control) == _shape(record)


def _shape(record: SaeRecord) -> tuple[int, int, int]:
    return record.latents, record.width, record.target_width


def _described(record: SaeRecord) -> str:
    place = record.site if record.site == record.target else f"{record.site}->{record.target}"
    return f"{record.latents} latents of width {record.width} at {place}"


def _require_place(named: str, control: SaeRecord, instruments: Sequence[Fitted], *, beside: Sequence[str]) -> None:
    if not beside:
        raise ConfigError(
            item=f"sae.controls: {named}",
            expected=f"an instrument with {_described(control)}",
            found="; ".join(f"{one.sae.record.name}: {_described(one.sae.record)}" for one in instruments),
            hint="A control is compared with an SAE of its own shape and site: audit such a one, or leave it out.",
        )


def _require_free(
    named: str, name: str, *, taken: set[str], beside: Sequence[str], found: dict[str, FrozenControl]
) -> None:
    if name in taken:
        raise ConfigError(
            item=f"sae.controls: {named}",
            expected="SAEs of different names",
            found=f"{name} twice",
            hint="An SAE is either an instrument or a control, and is named once; or rename one in its card.",
        )
    if served := [instrument for instrument in beside if instrument in found]:
        raise ConfigError(
            item=f"sae.controls: {named}",
            expected="one control an instrument",
            found=f"{name} and {found[served[0]].fitted.sae.record.name} for {served[0]}",
            hint='Name one of them; "default" is the shipped one.',
        )
