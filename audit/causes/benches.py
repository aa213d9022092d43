"""The SAEs that can be intervened on, and the rows of evidence that every exact run leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from audit.capture.fitting import stations
from audit.capture.intervention_places import order_of
from audit.capture.interventions import Interventions
from audit.capture.runner import Station
from audit.config import AuditConfig
from audit.errors import ConfigError, SaeInvalid
from audit.gathering import Instrument, Subject
from audit.records import Untested

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Bench:
    """One SAE with the engine that intervenes through it.

    Args:
        later: the next SAE in depth whose features are read under interventions, or None.
    """

    instrument: Instrument
    engine: Interventions
    later: Instrument | None

    @property
    def name(self) -> str:
        """Return the SAE's name."""
        return self.instrument.sae.record.name

    def spent(self) -> float:
        """Return the work so far in forward-equivalents."""
        return self.engine.spent


@dataclass(frozen=True, slots=True)
class Ledger:
    """Raw rows for the tables of the evidence that have these names; every printed figure follows from them."""

    intervention: list[Row] = field(default_factory=list)
    downstream: list[Row] = field(default_factory=list)
    sham: list[Row] = field(default_factory=list)
    screen: list[Row] = field(default_factory=list)


def set_up(
    subject: Subject, config: AuditConfig, say: Callable[[str], None]
) -> tuple[tuple[Bench, ...], tuple[Untested, ...]]:
    """Return a bench for each instrument that admits interventions, and why the others do not."""
    batch_tokens = config.capture.batch_tokens or subject.model.batch_tokens
    benches, untested = [], []
    for instrument in subject.instruments:
        later = _next(instrument, subject.instruments)
        try:
            engine = Interventions(
                subject.model,
                _station(instrument, subject),
                downstream=None if later is None else _station(later, subject),
                batch_tokens=batch_tokens,
                say=say,
            )
        except (ConfigError, SaeInvalid) as error:
            name = instrument.sae.record.name
            untested.append(Untested(f"all features of {name}", instrument.sae.record.latents, error.found))
            continue
        benches.append(Bench(instrument, engine, later))
    return tuple(benches), tuple(untested)


def seed_of(seed: int, *words: str) -> int:
    """Return a seed that depends on the audit's and on what it is for, and on no order of work."""
    return int.from_bytes(sha256("\0".join((str(seed), *words)).encode()).digest()[:7], "big")


def _station(instrument: Instrument, subject: Subject) -> Station:
    (station,) = stations((instrument.fitted,), subject.calibrations)
    return station


def _next(instrument: Instrument, instruments: Sequence[Instrument]) -> Instrument | None:
    behind = [one for one in instruments if order_of(one.site) > order_of(instrument.site)]
    return min(behind, key=lambda one: order_of(one.site), default=None)
