"""Run sequences through the model in length buckets and keep the rows that its SAEs make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audit.capture import shards
from audit.capture.batches import Batch, TokenSequence, make_batches, share_prefix
from audit.capture.model import LoadedModel
from audit.capture.sae import Sae, SparseRows
from audit.capture.sites import Site, read_sites
from audit.errors import EvidenceError

_CALIBRATION_SEQUENCES = 48
_CALIBRATION_TOKENS = 2048

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What must be known of a site before anything is captured there.

    Args:
        outlier_limit: the residual norm above which a position is excluded and counted.
        mean: (d_model,) float32, the mean residual of the sampled positions within the limit: the ablation.
    """

    outlier_limit: float
    mean: Tensor


@dataclass(frozen=True, slots=True)
class Station:
    """A site with the SAEs that read it and its outlier limit."""

    site: Site
    saes: tuple[Sae, ...]
    outlier_limit: float


@dataclass(frozen=True, slots=True)
class Captured:
    """What one batch gave: sparse rows of every SAE, and moments of every sequence at every site."""

    rows: tuple[shards.RowBlock, ...]
    moments: tuple[shards.SequenceMoments, ...]


def calibrate(
    model: LoadedModel, sites: Iterable[Site], sequences: Sequence[TokenSequence], *, factor: float
) -> dict[Site, Calibration]:
    """Measure outlier limit and mean at each site on about 48 sequences spread evenly over the run.

    Args:
        model: the model.
        sites: where.
        sequences: all that will run.
        factor: a position is an outlier when its norm exceeds this multiple of the median content norm.
    """
    step = max(1, len(sequences) // _CALIBRATION_SEQUENCES)
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for batch in make_batches(sequences[::step], batch_tokens=_CALIBRATION_TOKENS):
        residuals = read_sites(model.model, model.layers, found, batch.inputs(model))
        for site, residual in residuals.items():
            found[site].append(residual.float().cpu()[batch.content])
    calibrations = {}
    for site, parts in found.items():
        rows = torch.cat(parts)
        norms = rows.norm(dim=-1)
        limit = factor * float(norms.median())
        calibrations[site] = Calibration(limit, rows[norms <= limit].mean(0))
    return calibrations


def capture(
    model: LoadedModel,
    stations: Sequence[Station],
    sequences: Sequence[TokenSequence],
    *,
    folder: Path,
    batch_tokens: int,
    advance: Advance = lambda _: None,
) -> tuple[str, ...]:
    """Write a shard for each batch of sequences; batches whose shard is already there are not run again.

    Args:
        model: the audited model.
        stations: the sites with their SAEs.
        sequences: what to run.
        folder: where the shards go; it must exist.
        batch_tokens: positions a batch, padding included.
        advance: called with the number of sequences finished.

    Returns:
        The keys of all shards, in the order of the batches.

    Raises:
        EvidenceError: the model produced NaN or infinity at a kept position, or a sequence has no such position.
        OutputError: a shard could not be written.
    """
    keys = []
    highest = max((station.site for station in stations), key=lambda site: site.depth)
    prefix = share_prefix(model, sequences, upto=highest)
    for batch in make_batches(sequences, batch_tokens=batch_tokens, prefix=prefix):
        parts = [model.record.digest, model.record.dtype]
        for station in stations:
            parts += [str(station.site), repr(station.outlier_limit), *(sae.record.digest for sae in station.saes)]
        parts += [f"{s.id}:{s.ids}:{s.content}" for s in batch.prompts]
        key = shards.shard_key(parts)
        if not shards.is_complete(folder, key):
            captured = run_batch(model, stations, batch)
            shards.write_shard(folder, key, captured.rows, captured.moments)
        keys.append(key)
        advance(len(batch.prompts))
    return tuple(keys)


def run_batch(model: LoadedModel, stations: Sequence[Station], batch: Batch[TokenSequence]) -> Captured:
    """Run one batch up to the highest site and encode the kept positions with every SAE.

    Raises:
        EvidenceError: NaN or infinity at a content position, or a sequence without a kept position.
    """
    residuals = read_sites(model.model, model.layers, [s.site for s in stations], batch.inputs(model))
    rows: list[shards.RowBlock] = []
    moments: list[shards.SequenceMoments] = []
    for station in stations:
        own = _run_station(station, residuals[station.site].float(), batch)
        rows += own.rows
        moments += own.moments
    return Captured(tuple(rows), tuple(moments))


def _run_station(station: Station, residual: Tensor, batch: Batch[TokenSequence]) -> Captured:
    norms = residual.norm(dim=-1)
    content = batch.content.to(residual.device)
    if not bool(torch.isfinite(norms[content]).all()):
        raise EvidenceError(
            item=f"residual stream at {station.site}",
            expected="finite activations",
            found="NaN or infinity",
            hint='Run with model.dtype = "fp32"; if it persists the weights are damaged.',
        )
    kept = content & (norms <= station.outlier_limit)
    if not bool(kept.any(dim=1).all()):
        raise EvidenceError(
            item=batch.prompts[int((~kept.any(dim=1)).nonzero()[0])].label,
            expected="at least one token of its own that is not an outlier",
            found="none",
            hint="The text is empty for this tokenizer, or capture.outlier_norm_factor is too strict.",
        )
    flat = residual[kept]
    owner = kept.nonzero()
    blocks, errors, cosines = [], {}, {}
    for sae in station.saes:
        rows = sae.encode(flat)
        rebuilt = sae.decode(rows, flat.shape[0])
        errors[sae.record.name] = _per_prompt((flat - rebuilt).double().pow(2).sum(1), owner, len(batch.prompts))
        similarity = torch.nn.functional.cosine_similarity(flat, rebuilt, dim=1).double()
        cosines[sae.record.name] = _per_prompt(similarity, owner, len(batch.prompts))
        blocks.append(_row_block(sae, rows, owner, batch))
    squares = _per_prompt(flat.double().pow(2).sum(1), owner, len(batch.prompts))
    counts = kept.sum(1)
    means = torch.zeros(len(batch.prompts), flat.shape[1], dtype=torch.float64, device=flat.device)
    means.index_add_(0, owner[:, 0], flat.double())
    means /= counts.clamp(min=1)[:, None]
    moments = [
        shards.SequenceMoments(
            site=str(station.site),
            prompt=item.id,
            tokens=len(item.ids),
            content=sum(item.content),
            outliers=int(content[n].sum() - counts[n]),
            kept=int(counts[n]),
            mean=means[n].float().cpu().numpy(),
            last=residual[n][kept[n]][-1].cpu().numpy(),
            sum_squares=float(squares[n]),
            error={name: float(values[n]) for name, values in errors.items()},
            cosine={name: float(values[n]) for name, values in cosines.items()},
        )
        for n, item in enumerate(batch.prompts)
    ]
    return Captured(tuple(blocks), tuple(moments))


def _row_block(sae: Sae, rows: SparseRows, owner: Tensor, batch: Batch[TokenSequence]) -> shards.RowBlock:
    ids = torch.tensor([p.id for p in batch.prompts], device=owner.device)
    return shards.RowBlock(
        sae=sae.record.name,
        prompt=ids[owner[rows.token, 0]].cpu().numpy().astype(np.int32),
        position=(owner[rows.token, 1] + batch.prefix.length).cpu().numpy().astype(np.int32),
        latent=rows.latent.cpu().numpy().astype(np.int32),
        activation=rows.activation.cpu().numpy().astype(np.float32),
    )


def _per_prompt(values: Tensor, owner: Tensor, count: int) -> Tensor:
    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add_(0, owner[:, 0], values)
