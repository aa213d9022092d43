"""A latent in the eye: how often it fires, on what, and which tokens its direction promotes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audit.bench import Bench
from audit.capture.outputs import promoted_tokens
from audit.errors import CorpusError, UsageError
from audit.progress import Progress
from audit.records import TokenActivation
from audit.training.sequences import TextSequence

_LEVELS = ("strongest", "second quarter", "third quarter", "weakest quarter")
_BEFORE, _AFTER = 12, 6


@dataclass(frozen=True, slots=True)
class LatentContext:
    """A place where a latent fires: some tokens before and after its peak.

    Args:
        level: which part of the latent's activations, by rank, the place stands for.
        peak: the activation there, in residual units.
    """

    level: str
    register: str
    chat: bool
    peak: float
    tokens: tuple[TokenActivation, ...]


@dataclass(frozen=True, slots=True)
class LatentView:
    """What `sae inspect` shows of a latent.

    Args:
        tokens: how many tokens were read.
        density: share of them on which it fires.
        quantiles: 25%, 50%, 75% and 100% of its activations where it fires; None when it never does.
        registers: share of the tokens of each register on which it fires.
        promoted: tokens that its decoder direction raises most (logit lens).
        contexts: strongest first; then places across its activations, so that the strongest do not stand for all.
    """

    sae: str
    latent: int
    tokens: int
    density: float
    quantiles: tuple[float, ...] | None
    registers: dict[str, float]
    promoted: tuple[str, ...]
    contexts: tuple[LatentContext, ...]


@dataclass(frozen=True, slots=True)
class _Firing:
    sequence: TextSequence
    position: int
    activation: float


def inspect_latent(
    bench: Bench, latent: int, *, tokens: int, contexts: int, chat_share: float, progress: Progress
) -> LatentView:
    """Read a text and return what a latent does on it.

    Args:
        bench: SAE, model and text.
        latent: which.
        tokens: how many tokens to read, or as many as there are.
        contexts: how many places to show of each level.
        chat_share: share of the tokens in the model's chat template.
        progress: listener.

    Raises:
        UsageError: the SAE has no such latent.
        CorpusError: the text has no sequence that is long enough.
    """
    count = bench.sae.record.latents
    if not 0 <= latent < count:
        raise UsageError(
            item=f"latent {latent}",
            expected=f"0 to {count - 1}",
            found=str(latent),
            hint=f"{bench.sae.record.name} has {count:,} latents.",
        )
    sequences, _ = bench.sequences(tokens=tokens, chat_share=chat_share)
    if not sequences:
        raise CorpusError(
            item=f"{bench.corpus.name}: {bench.selection}",
            expected="at least one sequence of 24 tokens",
            found="none",
            hint="Give more text.",
        )
    firings, kept = _read(bench, latent, sequences, progress)
    total = sum(kept.values())
    values = np.array([firing.activation for firing in firings])
    by_register = {name: sum(f.sequence.register == name for f in firings) for name in sorted(kept)}
    return LatentView(
        sae=bench.sae.record.name,
        latent=latent,
        tokens=total,
        density=len(firings) / total,
        quantiles=tuple(float(q) for q in np.quantile(values, (0.25, 0.5, 0.75, 1))) if len(values) else None,
        registers={name: by_register[name] / kept[name] for name in by_register},
        promoted=promoted_tokens(bench.model, bench.sae, [latent], top=12)[latent],
        contexts=tuple(_contexts(bench, firings, most=contexts)),
    )


def _read(
    bench: Bench, latent: int, sequences: list[TextSequence], progress: Progress
) -> tuple[list[_Firing], dict[str, int]]:
    """Return every place where the latent fires, and the tokens read of each register."""
    by_id = {s.id: s for s in sequences}
    firings: list[_Firing] = []
    kept: dict[str, int] = {}
    with progress.stage("reading the text", total=len(sequences)) as advance:
        for count, captured in bench.read(sequences, bench.prepare(sequences)):
            for moments in captured.moments:
                # A transcoder's input is told of too; only what it answers for is counted.
                if bench.sae.record.name not in moments.error:
                    continue
                register = by_id[moments.prompt].register
                kept[register] = kept.get(register, 0) + moments.kept
            (rows,) = captured.rows
            firings += [
                _Firing(by_id[int(rows.prompt[n])], int(rows.position[n]), float(rows.activation[n]))
                for n in np.flatnonzero(rows.latent == latent)
            ]
            advance(count)
    return firings, kept


def _contexts(bench: Bench, firings: list[_Firing], *, most: int) -> list[LatentContext]:
    """Return the strongest places, at most one a document, then some around each quartile of the activations."""
    ranked = sorted(firings, key=lambda f: (-f.activation, f.sequence.id, f.position))
    shown: list[LatentContext] = []
    used: set[str] = set()
    bounds = [n * len(ranked) // 4 for n in range(5)]
    for level, start, end in zip(_LEVELS, bounds, (len(ranked), *bounds[2:]), strict=False):
        taken = 0
        for firing in ranked[start:end]:
            if taken == most:
                break
            if firing.sequence.document in used:
                continue
            used.add(firing.sequence.document)
            shown.append(_context(bench, firing, firings, level))
            taken += 1
    return shown


def _context(bench: Bench, firing: _Firing, firings: list[_Firing], level: str) -> LatentContext:
    sequence = firing.sequence
    own = {f.position: f.activation for f in firings if f.sequence.id == sequence.id}
    window = range(max(0, firing.position - _BEFORE), min(len(sequence.ids), firing.position + _AFTER + 1))
    return LatentContext(
        level=level,
        register=sequence.register,
        chat=sequence.chat,
        peak=firing.activation,
        tokens=tuple(
            TokenActivation(bench.model.tokenizer.decode([sequence.ids[at]]), own.get(at, 0.0)) for at in window
        ),
    )
