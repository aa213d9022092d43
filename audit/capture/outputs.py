"""Full forward passes: what the model answers, and what it loses when it reads the SAE's reconstruction instead."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from audit.capture.batches import Batch, TokenSequence, make_batches, share_prefix
from audit.capture.halving import Say, run_halved
from audit.capture.model import LoadedModel
from audit.capture.norms import NormAffine, take_apart
from audit.capture.prompts import OutcomeTokens, TokenisedPrompt
from audit.capture.resuming import can_resume, resumed_at
from audit.capture.runner import Advance, Station
from audit.capture.sae import Sae
from audit.capture.sites import Site, SiteKind, parse_site, replaced_site
from audit.errors import EvidenceError

_ADDED_TO_THE_STREAM = (
    SiteKind.RESID_PRE,
    SiteKind.RESID_MID,
    SiteKind.RESID_POST,
    SiteKind.MLP_OUT,
    SiteKind.ATTN_OUT,
)


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
    say: Say = lambda _: None,
) -> tuple[OutcomeLogits, ...]:
    """Return the two logits of each prompt at its last position, ordered by prompt id.

    Args:
        model: the audited model.
        prompts: tokenised prompts with the token ids of their outcome.
        batch_tokens: positions a batch, padding included.
        advance: called with the number of prompts finished.
        say: called with one line when a batch did not fit into memory.
    """
    wanted = {prompt.prompt.id: tokens for prompt, tokens in prompts}
    answers: list[OutcomeLogits] = []
    if not prompts:
        return ()
    tokenised = [prompt for prompt, _ in prompts]
    prefix = share_prefix(model, tokenised, upto=None)

    def ask(batch: Batch[TokenisedPrompt]) -> list[OutcomeLogits]:
        with torch.inference_mode():
            logits = _last_logits(model, batch, batch.mask.sum(1) - 1)
        return [
            OutcomeLogits(p.prompt.id, float(row[wanted[p.id].target]), float(row[wanted[p.id].foil]))
            for p, row in zip(batch.prompts, logits, strict=True)
        ]

    for batch in make_batches(tokenised, batch_tokens=batch_tokens, prefix=prefix, to_the_end=True):
        answers += [answer for part in run_halved(batch, ask, say=say) for answer in part]
        advance(len(batch.prompts))
    return tuple(sorted(answers, key=lambda answer: answer.prompt))


def splice(
    model: LoadedModel,
    station: Station,
    prompts: Sequence[TokenSequence],
    *,
    batch_tokens: int,
    ablation: Tensor,
    seed: int,
    advance: Advance = lambda _: None,
    say: Say = lambda _: None,
) -> tuple[SplicedPrompt, ...]:
    """Return what each prompt's next-token predictions lose when the reconstruction replaces the activation.

    Only kept content positions are replaced: template and outlier positions pass through untouched, as everywhere in
    the audit. The random error has the norm of the SAE's own error at each position and a direction drawn from `seed`.
    A transcoder reads at the station's site and is spliced in where its output belongs.

    Args:
        model: the audited model.
        station: a site with the one SAE to splice.
        prompts: what to run.
        batch_tokens: positions a batch, padding included.
        ablation: (d_out,) float32, what ablation puts in the activation's place: its mean.
        seed: of the random directions.
        advance: called with the number of prompts finished.
        say: called with one line when a batch did not fit into memory.

    Raises:
        EvidenceError: a prediction is NaN or infinite.
    """
    results: list[SplicedPrompt] = []
    prefix = share_prefix(model, prompts, upto=None)
    splicing = _Splicing(model, station, ablation, torch.Generator().manual_seed(seed))
    for batch in make_batches(prompts, batch_tokens=batch_tokens, prefix=prefix):
        parts = run_halved(batch, splicing.run, say=say)
        results += [row for part in parts for row in part]
        advance(len(batch.prompts))
    return tuple(sorted(results, key=lambda result: result.prompt))


class _Splicing:
    """Splices one SAE into batch after batch; below its site the model runs once a batch where it can be resumed."""

    def __init__(self, model: LoadedModel, station: Station, ablation: Tensor, generator: torch.Generator) -> None:
        self._model = model
        self._station = station
        self._ablation = ablation
        self._generator = generator
        self._resumes: bool | None = None

    def run(self, batch: Batch[TokenSequence]) -> list[SplicedPrompt]:
        model, station = self._model, self._station
        (sae,) = station.saes
        target = station.targets.get(sae.record.name, station.site)
        entry = Site(SiteKind.RESID_PRE, target.layer)
        activations: dict[Site, Tensor] = {}
        with contextlib.ExitStack() as reading:
            for site in {station.site, target, entry}:
                reading.enter_context(replaced_site(model.layers, site, partial(_note, activations, site)))
            clean = _log_probabilities(model, batch)
        read = activations[station.site].float()
        kept = batch.content.to(read.device) & (read.norm(dim=-1) <= station.outlier_limit)
        source, own = read[kept], activations[target].float()[kept]
        rebuilt = sae.decode(sae.encode(source), source)
        noise = torch.randn(own.shape, generator=self._generator).to(own.device)
        noise *= (rebuilt - own).norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
        variants = {"spliced": rebuilt, "random": own + noise, "ablated": self._ablation.to(own.device).expand_as(own)}
        changes = {}
        with self._above(target, batch, activations[entry]):
            for name, rows in variants.items():
                changed = activations[target].clone()
                changed[kept] = rows.to(changed.dtype)
                with replaced_site(model.layers, target, partial(_instead, changed)):
                    changes[name] = _log_probabilities(model, batch)
        return _compare(batch, clean, changes)

    def _above(
        self, target: Site, batch: Batch[TokenSequence], entering: Tensor
    ) -> contextlib.AbstractContextManager[None]:
        layers = self._model.layers
        if self._resumes is None:
            run = partial(_log_probabilities, self._model, batch)
            self._resumes = can_resume(layers, target.layer, run, entering)
        return resumed_at(layers, target.layer, entering) if self._resumes else contextlib.nullcontext()


def lens_is_reliable(target: str, *, layers: int) -> bool:
    """Tell whether a site lies in the last third of a model's layers, where the logit lens may be read.

    In earlier layers the residual stream is not yet in the basis of the unembedding: the lens shows tokens that later
    layers do not predict (nostalgebraist 2020; Belrose et al. 2023, arXiv 2303.08112). The third is a convention.
    """
    site = parse_site(target, layers=layers)
    # The input of a layer is the output of the one before.
    layer = site.layer - (site.kind is SiteKind.RESID_PRE)
    return 3 * layer >= 2 * layers


def promoted_tokens(
    model: LoadedModel, sae: Sae, latents: Sequence[int], *, top: int = 8
) -> dict[int, tuple[str, ...]]:
    """Return the tokens that each latent's decoder direction raises most (logit lens, nostalgebraist 2020).

    The final norm's centring and gain are applied; its data-dependent division is not, so the order holds and the size
    does not.
    A latent whose output is not added to the residual stream has none: inside a branch the lens means nothing.
    """
    target = parse_site(sae.record.target, layers=len(model.layers))
    if target.kind not in _ADDED_TO_THE_STREAM:
        return dict.fromkeys(latents, ())
    unembedding = model.model.get_output_embeddings().weight  # type: ignore[operator]
    directions = sae.w_dec[list(latents)]
    if directions.shape[1] != unembedding.shape[1]:
        # A projection stands between the stream and the unembedding (OPT-350m).
        return dict.fromkeys(latents, ())
    norm = _final_norm(model.model, unembedding[:1])
    if norm is not None:
        directions = (directions - directions.mean(1, keepdim=True) if norm.centred else directions) * norm.gain
    scores = directions @ unembedding.float().T
    tops = scores.topk(min(top, scores.shape[1]), dim=1).indices.tolist()
    return {latent: tuple(model.tokenizer.decode([t]) for t in ids) for latent, ids in zip(latents, tops, strict=True)}


def _last_logits(model: LoadedModel, batch: Batch[TokenSequence], last: Tensor) -> Tensor:
    """Return (batch, vocabulary) logits at each prompt's last position; the unembedding runs near those only."""
    inputs = batch.inputs(model)
    rows = torch.arange(len(last))
    if "logits_to_keep" not in inspect.signature(model.model.forward).parameters:
        whole: Tensor = model.model(**inputs).logits
        return whole.float().cpu()[rows, last]
    # The model's own head: some scale or cap their logits after the unembedding.
    ends, place = torch.unique(last, return_inverse=True)
    logits: Tensor = model.model(**inputs, logits_to_keep=ends.to(model.device)).logits
    return logits.float().cpu()[rows, place]


def _log_probabilities(model: LoadedModel, batch: Batch[TokenSequence]) -> Tensor:
    with torch.inference_mode():
        logits = model.model(**batch.inputs(model)).logits
        log_probabilities: Tensor = torch.log_softmax(logits.float(), dim=-1)
        return log_probabilities


def _note(activations: dict[Site, Tensor], site: Site, activation: Tensor) -> Tensor:
    # Cloned: some models add to an activation in place further on.
    activations[site] = activation.clone()
    return activation


def _instead(changed: Tensor, _: Tensor) -> Tensor:
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


def _final_norm(model: nn.Module, like: Tensor) -> NormAffine | None:
    body = model.get_decoder()  # type: ignore[operator]
    for name in ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f"):
        norm = getattr(body, name, None)
        if isinstance(norm, nn.Module):
            return take_apart(norm, like)
    return None
