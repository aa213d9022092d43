"""Full forward passes: what the model answers, and what it loses when it reads the SAE's reconstruction instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.capture.batches import Batch, TokenSequence, make_batches, share_prefix
from audit.capture.model import LoadedModel
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.capture.runner import Advance, Calibration
from audit.capture.sae import Sae
from audit.capture.sites import Site, replaced_site
from audit.errors import EvidenceError


@dataclass(frozen=True, slots=True)
class OutcomeLogits:
    """The logits of an outcome's two continuations at the last position of a prompt."""

    prompt: int
    target: float
    foil: float


@dataclass(frozen=True, slots=True)
class SplicedPrompt:
    """Sums over the predicted content tokens of one prompt, in nats.

    Args:
        tokens: how many next tokens were predicted: content tokens that follow a content token. An outlier's prediction
            counts too, and changes through the positions before it only.
        ce: cross-entropy of the untouched model; ce_spliced: with the reconstruction at kept positions; ce_ablated:
            with the mean residual there.
        kl: KL(untouched || spliced); kl_random: the same for a random error of equal norm.
    """

    prompt: int
    tokens: int
    ce: float
    ce_spliced: float
    ce_ablated: float
    kl: float
    kl_random: float


def answer_outcomes(
    model: LoadedModel,
    prompts: Sequence[tuple[TokenisedPrompt, OutcomeTokens]],
    *,
    batch_tokens: int,
    advance: Advance = lambda _: None,
) -> tuple[OutcomeLogits, ...]:
    """Return the two logits of each prompt at its last position, ordered by prompt id.

    Args:
        model: the audited model.
        prompts: tokenised prompts with the token ids of their outcome.
        batch_tokens: positions a batch, padding included.
        advance: called with the number of prompts finished.
    """
    wanted = {prompt.prompt.id: tokens for prompt, tokens in prompts}
    answers = []
    if not prompts:
        return ()
    tokenised = [prompt for prompt, _ in prompts]
    prefix = share_prefix(model, tokenised, upto=None)
    for batch in make_batches(tokenised, batch_tokens=batch_tokens, prefix=prefix, to_the_end=True):
        last = batch.mask.sum(1) - 1
        with torch.inference_mode():
            logits = _last_logits(model, batch, last)
        for row, prompt in enumerate(batch.prompts):
            tokens = wanted[prompt.prompt.id]
            target, foil = logits[row, tokens.target], logits[row, tokens.foil]
            answers.append(OutcomeLogits(prompt.prompt.id, float(target), float(foil)))
        advance(len(batch.prompts))
    return tuple(sorted(answers, key=lambda answer: answer.prompt))


def splice(
    model: LoadedModel,
    sae: Sae,
    site: Site,
    prompts: Sequence[TokenSequence],
    *,
    batch_tokens: int,
    calibration: Calibration,
    seed: int,
    advance: Advance = lambda _: None,
) -> tuple[SplicedPrompt, ...]:
    """Return what each prompt's next-token predictions lose when the reconstruction replaces the residual stream.

    Only kept content positions are replaced: template and outlier positions pass through untouched, as everywhere in
    the audit. The random error has the norm of the SAE's own error at each position and a direction drawn from `seed`.

    Args:
        model: the audited model.
        sae: the instrument.
        site: where it reads.
        prompts: what to run.
        batch_tokens: positions a batch, padding included.
        calibration: residual norm above which a position passes through, and the mean that ablates.
        seed: of the random directions.
        advance: called with the number of prompts finished.

    Raises:
        EvidenceError: a prediction is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    results = []
    prefix = share_prefix(model, prompts, upto=None)
    for batch in make_batches(prompts, batch_tokens=batch_tokens, prefix=prefix):
        clean = _log_probabilities(model, batch)

        def rebuild(residual: Tensor, batch: Batch[TokenSequence] = batch) -> Tensor:
            kept = _kept(residual, batch, calibration.outlier_limit)
            flat = residual[kept].float()
            return _put(residual, kept, sae.decode(sae.encode(flat), flat.shape[0]))

        def disturb(residual: Tensor, batch: Batch[TokenSequence] = batch) -> Tensor:
            kept = _kept(residual, batch, calibration.outlier_limit)
            flat = residual[kept].float()
            norm = (sae.decode(sae.encode(flat), flat.shape[0]) - flat).norm(dim=1, keepdim=True)
            noise = torch.randn(flat.shape, generator=generator).to(flat.device)
            return _put(residual, kept, flat + noise * (norm / noise.norm(dim=1, keepdim=True)))

        def ablate(residual: Tensor, batch: Batch[TokenSequence] = batch) -> Tensor:
            kept = _kept(residual, batch, calibration.outlier_limit)
            return _put(residual, kept, calibration.mean.to(residual.device).expand(int(kept.sum()), -1))

        changes = {
            name: _log_probabilities(model, batch, site, change)
            for name, change in (("spliced", rebuild), ("random", disturb), ("ablated", ablate))
        }
        results += _compare(batch, clean, changes)
        advance(len(batch.prompts))
    return tuple(sorted(results, key=lambda result: result.prompt))


def promoted_tokens(
    model: LoadedModel, sae: Sae, latents: Sequence[int], *, top: int = 8
) -> dict[int, tuple[str, ...]]:
    """Return the tokens that each latent's decoder direction raises most (logit lens, nostalgebraist 2020).

    The final norm's scale is applied; its data-dependent division is not, so the order holds and the size does not.
    """
    unembedding = model.model.get_output_embeddings().weight.float()  # type: ignore[operator]
    scale = _final_norm_scale(model.model)
    directions = sae.w_dec[list(latents)]
    scores = (directions * scale if scale is not None else directions) @ unembedding.T
    tops = scores.topk(min(top, scores.shape[1]), dim=1).indices.tolist()
    return {latent: tuple(model.tokenizer.decode([t]) for t in ids) for latent, ids in zip(latents, tops, strict=True)}


def _last_logits(model: LoadedModel, batch: Batch[TokenSequence], last: Tensor) -> Tensor:
    """Return (batch, vocabulary) logits at each prompt's last position; the unembedding runs on those rows only."""
    body = model.model.get_decoder()  # type: ignore[operator]
    hidden = body(**batch.inputs(model)).last_hidden_state
    rows = hidden[torch.arange(len(last)), last]
    head: nn.Module = model.model.get_output_embeddings()  # type: ignore[operator]
    logits: Tensor = head(rows)
    return logits.float().cpu()


def _log_probabilities(
    model: LoadedModel,
    batch: Batch[TokenSequence],
    site: Site | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    with torch.inference_mode():
        if site is None or change is None:
            logits = model.model(**batch.inputs(model)).logits
        else:
            with replaced_site(model.layers, site, change):
                logits = model.model(**batch.inputs(model)).logits
        log_probabilities: Tensor = torch.log_softmax(logits.float(), dim=-1)
        return log_probabilities


def _kept(residual: Tensor, batch: Batch[TokenSequence], outlier_limit: float) -> Tensor:
    kept: Tensor = batch.content.to(residual.device) & (residual.float().norm(dim=-1) <= outlier_limit)
    return kept


def _put(residual: Tensor, kept: Tensor, flat: Tensor) -> Tensor:
    changed = residual.clone()
    changed[kept] = flat.to(residual.dtype)
    return changed


def _compare(batch: Batch[TokenSequence], clean: Tensor, changed: Mapping[str, Tensor]) -> list[SplicedPrompt]:
    # A position predicts the next token; both must be the prompt's own words.
    predicts = (batch.content[:, :-1] & batch.content[:, 1:]).to(clean.device)
    following = batch.ids[:, 1:, None].to(clean.device)

    def total(values: Tensor) -> Tensor:
        return (values * predicts).double().sum(1)

    def cross_entropy(log_probabilities: Tensor) -> Tensor:
        return total(-log_probabilities[:, :-1].gather(2, following)[..., 0])

    def divergence(other: Tensor) -> Tensor:
        return total((clean[:, :-1].exp() * (clean[:, :-1] - other[:, :-1])).sum(-1))

    ce, ce_spliced, ce_ablated = (cross_entropy(x) for x in (clean, changed["spliced"], changed["ablated"]))
    kl, kl_random = divergence(changed["spliced"]), divergence(changed["random"])
    if not bool(torch.isfinite(torch.stack([ce, ce_spliced, ce_ablated, kl, kl_random])).all()):
        raise EvidenceError(
            item="the model's predictions",
            expected="finite log probabilities",
            found="NaN or infinity",
            hint='Run with dtype "fp32"; if it persists the weights are damaged.',
        )
    counts = predicts.sum(1)
    return [
        SplicedPrompt(
            prompt=p.id,
            tokens=int(counts[n]),
            ce=float(ce[n]),
            ce_spliced=float(ce_spliced[n]),
            ce_ablated=float(ce_ablated[n]),
            kl=float(kl[n]),
            kl_random=float(kl_random[n]),
        )
        for n, p in enumerate(batch.prompts)
    ]


def _final_norm_scale(model: nn.Module) -> Tensor | None:
    body = model.get_decoder()  # type: ignore[operator]
    for name in ("norm", "ln_f", "final_layer_norm", "final_layernorm"):
        norm = getattr(body, name, None)
        weight = getattr(norm, "weight", None)
        if isinstance(weight, Tensor):
            # Gemma's RMSNorm multiplies by 1 + weight.
            return 1 + weight.float() if "gemma" in type(norm).__name__.lower() else weight.float()
    return None
