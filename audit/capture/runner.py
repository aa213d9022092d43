"""Run prompts through the model in length buckets and keep the rows that its SAEs make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audit.capture import shards
from audit.capture.batches import Batch, make_batches, share_prefix
from audit.capture.model import LoadedModel
from audit.capture.prompts import TokenisedPrompt
from audit.capture.sae import Sae, SparseRows
from audit.capture.sites import Site, read_site
from audit.errors import EvidenceError

_CALIBRATION_PROMPTS = 48
_CALIBRATION_TOKENS = 2048

Advance = Callable[[int], None]


def calibrate_outlier_limit(
    model: LoadedModel, site: Site, prompts: Sequence[TokenisedPrompt], *, factor: float
) -> float:
    """Return the residual norm above which a position is an outlier: `factor` times the median content norm.

    Measured on about 48 prompts spread evenly over the run, so that the limit is known before anything is captured.
    """
    step = max(1, len(prompts) // _CALIBRATION_PROMPTS)
    norms = []
    for batch in make_batches(prompts[::step], batch_tokens=_CALIBRATION_TOKENS):
        residual = read_site(model.model, model.layers, site, batch.inputs(model)).float().cpu()
        norms.append(residual.norm(dim=-1)[batch.content])
    return factor * float(torch.cat(norms).median())


def capture(
    model: LoadedModel,
    saes: Sequence[Sae],
    site: Site,
    prompts: Sequence[TokenisedPrompt],
    *,
    folder: Path,
    batch_tokens: int,
    outlier_limit: float,
    advance: Advance = lambda _: None,
) -> tuple[str, ...]:
    """Write a shard for each batch of prompts; batches whose shard is already there are not run again.

    Args:
        model: the audited model.
        saes: every SAE that reads this site.
        site: where the SAEs read.
        prompts: what to run.
        folder: where the shards go; it must exist.
        batch_tokens: positions a batch, padding included.
        outlier_limit: residual norm above which a position is excluded and counted.
        advance: called with the number of prompts finished.

    Returns:
        The keys of all shards, in the order of the batches.

    Raises:
        EvidenceError: the model produced NaN or infinity at a kept position.
        OutputError: a shard could not be written.
    """
    keys = []
    prefix = share_prefix(model, prompts, upto=site)
    for batch in make_batches(prompts, batch_tokens=batch_tokens, prefix=prefix):
        parts = [model.record.digest, model.record.dtype, str(site), repr(outlier_limit)]
        parts += [sae.record.digest for sae in saes]
        parts += [f"{p.prompt.id}:{p.ids}:{p.content}" for p in batch.prompts]
        key = shards.shard_key(parts)
        if not shards.is_complete(folder, key):
            rows, moments = _run(model, saes, site, batch, outlier_limit=outlier_limit)
            shards.write_shard(folder, key, rows, moments)
        keys.append(key)
        advance(len(batch.prompts))
    return tuple(keys)


def _run(
    model: LoadedModel, saes: Sequence[Sae], site: Site, batch: Batch, *, outlier_limit: float
) -> tuple[list[shards.RowBlock], list[shards.PromptMoments]]:
    residual = read_site(model.model, model.layers, site, batch.inputs(model)).float()
    norms = residual.norm(dim=-1)
    content = batch.content.to(residual.device)
    if not bool(torch.isfinite(norms[content]).all()):
        raise EvidenceError(
            item=f"residual stream at {site}",
            expected="finite activations",
            found="NaN or infinity",
            hint='Run with model.dtype = "fp32"; if it persists the weights are damaged.',
        )
    kept = content & (norms <= outlier_limit)
    if not bool(kept.any(dim=1).all()):
        empty = batch.prompts[int((~kept.any(dim=1)).nonzero()[0])].prompt
        raise EvidenceError(
            item=f"scenario {empty.scenario}, arm {empty.arm.value}",
            expected="at least one token of its own that is not an outlier",
            found="none",
            hint="The text is empty for this tokenizer, or capture.outlier_norm_factor is too strict.",
        )
    flat = residual[kept]
    owner = kept.nonzero()
    blocks, errors, cosines = [], {}, {}
    for sae in saes:
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
        shards.PromptMoments(
            prompt=item.prompt.id,
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
    return blocks, moments


def _row_block(sae: Sae, rows: SparseRows, owner: Tensor, batch: Batch) -> shards.RowBlock:
    ids = torch.tensor([p.prompt.id for p in batch.prompts], device=owner.device)
    return shards.RowBlock(
        sae=sae.record.name,
        prompt=ids[owner[rows.token, 0]].cpu().numpy().astype(np.int32),
        position=(owner[rows.token, 1] + batch.prefix.length).cpu().numpy().astype(np.int32),
        latent=rows.latent.cpu().numpy().astype(np.int32),
        activation=rows.activation.cpu().numpy().astype(np.float32),
    )


def _per_prompt(values: Tensor, owner: Tensor, count: int) -> Tensor:
    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add_(0, owner[:, 0], values)
