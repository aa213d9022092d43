"""Run sequences through the model in length buckets and keep the rows that its SAEs make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from audit.capture import shards
from audit.capture.batches import TokenSequence, make_batches
from audit.capture.encoder import SparseRows
from audit.capture.model import LoadedModel
from audit.capture.sae import Sae
from audit.capture.sites import Site, read_sites
from audit.errors import EvidenceError

_CALIBRATION_SEQUENCES = 48
_CALIBRATION_TOKENS = 512

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What must be known of a site before anything is captured there.

    Args:
        outlier_limit: the norm above which a position is excluded and counted.
        sample: (tokens, d) float32, the sampled activations within the limit.
    """

    outlier_limit: float
    sample: Tensor

    @property
    def mean(self) -> Tensor:
        """Return (d,) float32, the mean activation of the sample: what ablation puts in its place."""
        return self.sample.mean(0)

    @property
    def scale(self) -> float:
        """Return the factor that brings the sample to a mean norm of sqrt(d)."""
        return float(self.sample.shape[1] ** 0.5 / self.sample.norm(dim=-1).mean())


@dataclass(frozen=True, slots=True)
class Station:
    """A site with the SAEs that read it and its outlier limit.

    Args:
        targets: SAE name -> the site that its output stands for, where that is another one: transcoders.
        neurons: the MLP neurons that are read beside the site, in the same pass; None for none.
    """

    site: Site
    saes: tuple[Sae, ...]
    outlier_limit: float
    targets: Mapping[str, Site] = field(default_factory=dict)
    neurons: Site | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        """Return every site that must be read."""
        beside = () if self.neurons is None else (self.neurons,)
        return (self.site, *self.targets.values(), *beside)


@dataclass(frozen=True, slots=True)
class Captured:
    """What one batch gave: sparse rows of every SAE, and moments of every sequence at every site."""

    rows: tuple[shards.RowBlock, ...]
    moments: tuple[shards.SequenceMoments, ...]


def calibrate(
    model: LoadedModel, sites: Iterable[Site], sequences: Sequence[TokenSequence], *, factor: float
) -> dict[Site, Calibration]:
    """Measure outlier limit and sample at each site on about 48 sequences spread evenly over the run.

    Args:
        model: the model.
        sites: where.
        sequences: all that will run.
        factor: a position is an outlier when its norm exceeds this multiple of the median content norm.
    """
    step = max(1, len(sequences) // _CALIBRATION_SEQUENCES)
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for batch in make_batches(sequences[::step], batch_tokens=_CALIBRATION_TOKENS):
        activations = read_sites(model.model, model.layers, found, batch.inputs(model))
        for site, activation in activations.items():
            found[site].append(batch.rows(activation).float().cpu())
    calibrations = {}
    for site, parts in found.items():
        rows = torch.cat(parts)
        norms = rows.norm(dim=-1)
        limit = factor * float(norms.median())
        calibrations[site] = Calibration(limit, rows[norms <= limit])
    return calibrations


class Readable(Protocol):
    """Prompts in whatever form the model runs them: padded side by side, or packed with their common parts once.

    `owner` is (pairs, 2) int64: for every own word of every prompt its prompt's place and its position there,
    ascending. `source` is (pairs,) int64: which row of `rows` holds its activation.
    """

    @property
    def prompts(self) -> tuple[TokenSequence, ...]:
        """Return the prompts."""

    @property
    def owner(self) -> Tensor:
        """Return whose each own word is."""

    @property
    def source(self) -> Tensor:
        """Return where each own word's activation is."""

    def rows(self, activation: Tensor) -> Tensor:
        """Return (rows, d) of the distinct own words."""

    def inputs(self, model: LoadedModel) -> dict[str, Any]:
        """Return the model's keyword arguments."""

    def halves(self) -> tuple[Readable, Readable]:
        """Return two with half of the prompts each."""


def run_batch(model: LoadedModel, stations: Sequence[Station], batch: Readable) -> Captured:
    """Run one batch up to the highest site and encode the kept positions with every SAE.

    Raises:
        EvidenceError: NaN or infinity at a content position, or a sequence without a kept position.
    """
    wanted = [site for station in stations for site in station.sites]
    activations = read_sites(model.model, model.layers, wanted, batch.inputs(model))
    words = {site: batch.rows(activation).float() for site, activation in activations.items()}
    del activations
    for site, rows_read in words.items():
        if not bool(torch.isfinite(rows_read).all()):
            raise EvidenceError(
                item=f"activations at {site}",
                expected="finite numbers",
                found="NaN or infinity",
                hint='Run with model.dtype = "fp32"; if it persists the weights are damaged.',
            )
    rows: list[shards.RowBlock] = []
    moments: list[shards.SequenceMoments] = []
    for station in stations:
        own = _run_station(station, words, batch)
        rows += own.rows
        moments += own.moments
    return Captured(tuple(rows), tuple(moments))


def _run_station(station: Station, words: Mapping[Site, Tensor], batch: Readable) -> Captured:
    read = words[station.site]
    places = _Places(station, read, batch)
    flat = read[places.kept]
    outputs = {site: words[site][places.kept] for site in station.targets.values()}
    blocks = []
    neurons = words[station.neurons][places.kept] if station.neurons is not None else None
    summaries = {station.site: _Summary(str(station.site), flat, neurons)} | {
        site: _Summary(f"{station.site}->{site}", rows) for site, rows in outputs.items()
    }
    for sae in station.saes:
        fired = sae.encode(flat)
        rebuilt = sae.decode(fired, flat)
        target = station.targets.get(sae.record.name, station.site)
        summaries[target].compare(sae.record.name, rebuilt)
        blocks.append(places.row_block(sae, fired))
    return Captured(tuple(blocks), tuple(moment for s in summaries.values() for moment in s.moments(places)))


class _Places:
    """Which distinct rows of a batch are kept at a station, and which words of which prompts they stand for."""

    def __init__(self, station: Station, read: Tensor, batch: Readable) -> None:
        norms = read.norm(dim=-1)
        device = read.device
        within = norms <= station.outlier_limit
        self.kept = within.nonzero()[:, 0]
        source, owner = batch.source.to(device), batch.owner.to(device)
        inside = within[source]
        self.prompts = batch.prompts
        # Of every kept word: its row among the kept ones, its prompt's place, its position.
        self.source = (within.cumsum(0) - 1)[source[inside]]
        self.prompt, self.position = owner[inside].T
        count = len(self.prompts)
        self.content = torch.bincount(owner[:, 0], minlength=count)
        self.sizes = torch.bincount(self.prompt, minlength=count)
        if not bool((self.sizes > 0).all()):
            raise EvidenceError(
                item=self.prompts[int((self.sizes == 0).nonzero()[0])].label,
                expected="at least one token of its own that is not an outlier",
                found="none",
                hint="The text is empty for this tokenizer, or capture.outlier_norm_factor is too strict.",
            )

    def row_block(self, sae: Sae, fired: SparseRows) -> shards.RowBlock:
        """Return the sparse rows of every kept word of every prompt, ordered by (prompt, position, latent)."""
        counts = torch.bincount(fired.token, minlength=len(self.kept))
        first = counts.cumsum(0) - counts
        lengths = counts[self.source]
        word = torch.repeat_interleave(lengths)
        within = torch.arange(len(word), device=word.device) - (lengths.cumsum(0) - lengths)[word]
        taken = first[self.source][word] + within
        ids = torch.tensor([p.id for p in self.prompts], device=word.device)[self.prompt]
        return shards.RowBlock(
            sae=sae.record.name,
            prompt=ids.to(torch.int32)[word].cpu().numpy(),
            position=self.position.to(torch.int32)[word].cpu().numpy(),
            latent=fired.latent.to(torch.int32)[taken].cpu().numpy(),
            activation=fired.activation[taken].cpu().numpy(),
        )

    def sums(self, values: Tensor) -> list[float]:
        """Return for each prompt the sum of a value, (kept,), over its words."""
        found: list[float] = self.add(values[:, None].double())[:, 0].tolist()
        return found

    def add(self, rows: Tensor) -> Tensor:
        """Return (prompts, d) float64, the sum over each prompt's words of rows, (kept, d)."""
        totals = torch.zeros(len(self.prompts), rows.shape[1], dtype=torch.float64, device=rows.device)
        return totals.index_add_(0, self.prompt, rows[self.source].double())

    def largest(self, rows: Tensor) -> Tensor:
        """Return (prompts, d), the largest value over each prompt's words of rows, (kept, d)."""
        return torch.stack([rows[own].amax(0) for own in self.source.split(self.sizes.tolist())])


class _Summary:
    """What the kept positions of a batch say at one site, and how far reconstructions of them are off.

    Args:
        label: the site, or `SITE->TARGET` for what transcoders at SITE answer for: the positions are SITE's.
        rows: (kept, d) float32.
        neurons: (kept, n) float32, the neurons at these positions, or None where none are read.
    """

    def __init__(self, label: str, rows: Tensor, neurons: Tensor | None = None) -> None:
        self._label = label
        self._rows = rows
        self._neurons = rows[:, :0] if neurons is None else neurons
        self._errors: dict[str, Tensor] = {}
        self._cosines: dict[str, Tensor] = {}

    def compare(self, name: str, rebuilt: Tensor) -> None:
        """Add the reconstruction by one SAE, (kept, d) float32."""
        self._errors[name] = (self._rows - rebuilt).square().sum(1)
        self._cosines[name] = torch.nn.functional.cosine_similarity(self._rows, rebuilt, dim=1)

    def moments(self, places: _Places) -> list[shards.SequenceMoments]:
        """Return one summary a sequence."""
        errors = {name: places.sums(values) for name, values in self._errors.items()}
        cosines = {name: places.sums(values) for name, values in self._cosines.items()}
        squares = places.sums(self._rows.square().sum(1))
        means = (places.add(self._rows) / places.sizes[:, None]).float().cpu()
        last = self._rows[places.source[places.sizes.cumsum(0) - 1]].cpu()
        neurons = places.largest(self._neurons).cpu()
        content, sizes = places.content.tolist(), places.sizes.tolist()
        return [
            shards.SequenceMoments(
                site=self._label,
                prompt=item.id,
                tokens=len(item.ids),
                content=content[n],
                outliers=content[n] - sizes[n],
                kept=sizes[n],
                mean=means[n].numpy(),
                last=last[n].numpy(),
                neurons=neurons[n].numpy(),
                sum_squares=squares[n],
                error={name: values[n] for name, values in errors.items()},
                cosine={name: values[n] for name, values in cosines.items()},
            )
            for n, item in enumerate(places.prompts)
        ]
