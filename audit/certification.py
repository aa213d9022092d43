"""What an SAE is certified for: its fidelity on text that it was not trained on, by register and format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit import __version__
from audit.analysis.fidelity import ALL, global_fidelity, part_fidelity
from audit.analysis.stability import match_seeds
from audit.arrays import Densities, FidelityMoments
from audit.bench import BATCH_TOKENS, SEED, Bench, open_bench, training_of
from audit.capture.fitting import fit_sae
from audit.capture.outputs import SplicedPrompt, splice
from audit.capture.runner import Captured
from audit.capture.sae import Sae, random_decoder
from audit.capture.sae_sources import load_sae
from audit.config import FidelityConfig, ModelConfig
from audit.digests import canonical_json
from audit.errors import CorpusError, EvidenceError, OutputError, SaeInvalid
from audit.progress import Progress
from audit.records import (
    CERTIFICATE_SCHEMA,
    Certificate,
    Fidelity,
    ModelRecord,
    SaeRecord,
    SeedStability,
    TrainingPoint,
    as_json,
    parse_record,
)
from audit.training.sequences import TextSequence

CERTIFICATE_FILE = "certificate.json"
PLAIN, CHAT = "plain", "chat"
_CURVE_POINTS = 24
_TOKENS = 100_000
_FEWEST_TOKENS = 200


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What to certify, on which model and text.

    Args:
        sae: any source of docs/sae-formats.md.
        model: the model, in the arithmetic of the audits to come.
        text: a corpus file. Only documents that every training holds out are used, whatever the file: which ones they
            are follows from their text.
        all_documents: use the others too. Right for text that is known not to have been trained on.
        tokens: how many tokens to measure on; None takes up to 100,000 of what there is.
        spliced_tokens: on how many of them the model's predictions are measured.
        chat_share: share of the tokens in the model's chat template.
        other_seed: another training of the same site, to match latents with, or None.
    """

    sae: str
    model: ModelConfig
    text: Path
    tokens: int | None
    spliced_tokens: int
    chat_share: float
    other_seed: str | None = None
    all_documents: bool = False


def certify(request: CheckRequest, *, progress: Progress) -> Certificate:
    """Measure an SAE on a text and return its certificate.

    Args:
        request: what to measure.
        progress: listener.

    Raises:
        AffidavitError: the SAE belongs to another model, or the text has too few tokens.
    """
    bench = open_bench(request.sae, request.model, request.text, all_documents=request.all_documents, progress=progress)
    _require_plain_names(bench)
    other = load_sae(request.other_seed) if request.other_seed is not None else None
    stability = _stability(bench.sae, fit_sae(other, bench.model).sae) if other is not None else None
    sequences = _enough_sequences(bench, request)
    prepared = bench.prepare(sequences)
    tally = _Tally(bench.sae, sequences)
    with progress.stage("reading the text", total=len(sequences)) as advance:
        for count, captured in bench.read(sequences, prepared):
            tally.add(captured)
            advance(count)
    sample = _spread(sequences, tokens=request.spliced_tokens)
    with progress.stage("splicing the reconstruction in", total=len(sample)) as advance:
        spliced = splice(
            bench.model,
            prepared.station,
            sample,
            batch_tokens=BATCH_TOKENS,
            ablation=prepared.ablation,
            seed=SEED,
            advance=advance,
        )
    tally.add_splices(spliced)
    return Certificate(
        schema=CERTIFICATE_SCHEMA,
        sae=bench.sae.record.name,
        sae_digest=bench.sae.record.digest,
        site=str(bench.site),
        model=bench.model.record.name,
        model_digest=bench.model.record.digest,
        dtype=bench.model.record.dtype,
        text=bench.corpus.name,
        text_digest=bench.corpus.digest,
        selection=bench.selection,
        documents=len({s.document for s in sequences}),
        sequences=len(sequences),
        tokens=tally.tokens,
        outliers=tally.outliers,
        outlier_limit=prepared.station.outlier_limit,
        rows=tally.rows(FidelityConfig()),
        stability=stability,
        curve=_curve(request.sae),
        tool=f"affidavit {__version__}",
    )


def write_certificate(certificate: Certificate, folder: Path) -> Path:
    """Write a certificate beside the weights that it speaks of, in one step.

    Raises:
        OutputError: the folder cannot be written.
        EvidenceError: a number is NaN or infinite.
    """
    path = folder / CERTIFICATE_FILE
    unfinished = folder / f".{CERTIFICATE_FILE}.unfinished"
    record = as_json(certificate)
    # Refuses NaN and infinity, which JSON does not know.
    canonical_json(record)
    try:
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(
            item=str(path), expected="a folder that can be written", found=str(error.strerror), hint="Mend the rights."
        ) from error
    return path


def read_certificate(folder: Path | None, sae: SaeRecord, model: ModelRecord) -> tuple[Certificate | None, str]:
    """Return the certificate of an SAE on a model, or None and the reason why there is none.

    Raises:
        EvidenceError: there is a file, and it is not a certificate.
    """
    if folder is None:
        return None, "Only an SAE in a folder of its own has a certificate; `affidavit sae check` measures one."
    path = folder / CERTIFICATE_FILE
    if not path.is_file():
        return None, "No certificate lies beside the weights; `affidavit sae check` makes one."
    certificate = _parse_certificate(path)
    reason = _mismatch(certificate, sae, model)
    return (None, reason) if reason else (certificate, "")


def was_measured_on(folder: Path | None, model: ModelRecord) -> bool:
    """Tell whether a certificate lies in an SAE's folder and was made on a model, in any arithmetic.

    Raises:
        EvidenceError: there is a file, and it is not a certificate.
    """
    if folder is None or not (folder / CERTIFICATE_FILE).is_file():
        return False
    return _parse_certificate(folder / CERTIFICATE_FILE).model_digest == model.digest


def _parse_certificate(path: Path) -> Certificate:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EvidenceError(
            item=str(path), expected="a JSON certificate", found=str(error), hint="Make it again with `sae check`."
        ) from error
    if not isinstance(loaded, dict) or loaded.get("schema") != CERTIFICATE_SCHEMA:
        raise EvidenceError(
            item=str(path),
            expected=f"schema {CERTIFICATE_SCHEMA}",
            found=str(loaded.get("schema") if isinstance(loaded, dict) else type(loaded).__name__),
            hint="Make it again with `sae check`.",
        )
    certificate: Certificate = parse_record(Certificate, loaded, where=path.name)
    return certificate


def _mismatch(certificate: Certificate, sae: SaeRecord, model: ModelRecord) -> str:
    stability = certificate.stability
    if stability is not None and len(stability.cosines) != sae.latents:
        return "The certificate beside the weights has not one cosine a latent; make it again with `sae check`."
    if certificate.sae_digest != sae.digest:
        return "The certificate beside the weights was made for other weights or another card."
    if certificate.model_digest != model.digest:
        return f"The certificate beside the weights was made on {certificate.model} in another build."
    if certificate.dtype != model.dtype:
        return f"The certificate was made in {certificate.dtype}; this audit ran the model in {model.dtype}."
    return ""


def summary_of(certificate: Certificate) -> Certificate:
    """Return the certificate without the cosine of every single latent."""
    if certificate.stability is None:
        return certificate
    return replace(certificate, stability=replace(certificate.stability, cosines=()))


class _Tally:
    """Sums over sequences that give the fidelity of any group of them."""

    def __init__(self, sae: Sae, sequences: Sequence[TextSequence]) -> None:
        self._record = sae.record
        self._place = {s.id: n for n, s in enumerate(sequences)}
        self._sequences = sequences
        count = len(sequences)
        self._kept = np.zeros(count, dtype=np.int64)
        self._means = np.zeros((count, sae.record.target_width))
        self._sums = np.zeros((3, count))
        # active[s, n]: tokens of sequence s on which n latents fire; it grows with n.
        self._active = np.zeros((count, (sae.record.k or 0) + 1), dtype=np.int64)
        self._firing = np.zeros(sae.record.latents, dtype=np.int64)
        self._maximum = np.zeros(sae.record.latents)
        self._spliced = np.zeros((count, 6))
        self.outliers = 0

    @property
    def tokens(self) -> int:
        """Return how many tokens were read."""
        return int(self._kept.sum())

    def add(self, captured: Captured) -> None:
        """Add what one batch gave."""
        name = self._record.name
        for moments in captured.moments:
            # A transcoder's input says nothing of its output: only what it answers for is compared.
            if name not in moments.error:
                continue
            at = self._place[moments.prompt]
            self._kept[at] = moments.kept
            self._means[at] = moments.mean
            self._sums[:, at] = moments.sum_squares, moments.error[name], moments.cosine[name]
            self.outliers += moments.outliers
        (rows,) = captured.rows
        self._firing += np.bincount(rows.latent, minlength=len(self._firing))
        np.maximum.at(self._maximum, rows.latent, rows.activation)
        token = np.stack([rows.prompt, rows.position])
        unique, active = np.unique(token, axis=1, return_counts=True)
        places = np.array([self._place[int(prompt)] for prompt in unique[0]], dtype=np.int64)
        if len(active) and active.max() >= self._active.shape[1]:
            self._active = np.pad(self._active, ((0, 0), (0, int(active.max()) + 1 - self._active.shape[1])))
        np.add.at(self._active, (places, active), 1)
        for at in {self._place[moments.prompt] for moments in captured.moments}:
            self._active[at, 0] = self._kept[at] - self._active[at, 1:].sum()

    def add_splices(self, spliced: Sequence[SplicedPrompt]) -> None:
        """Add what the predictions lost."""
        for row in spliced:
            self._spliced[self._place[row.prompt]] = (
                row.tokens, row.ce, row.ce_spliced, row.ce_ablated, row.kl, row.kl_random
            )  # fmt: skip

    def rows(self, config: FidelityConfig) -> tuple[Fidelity, ...]:
        """Return the fidelity of everything, of each format and of each register."""
        fired = np.flatnonzero(self._firing)
        densities = Densities(fired, self._firing[fired], self._maximum[fired])
        whole = np.ones(len(self._sequences), dtype=bool)
        name = self._record.name
        overall = global_fidelity(
            name, self._moments(whole), densities, latents=self._record.latents, config=config, scope=ALL
        )
        chat = np.array([s.chat for s in self._sequences])
        registers = np.array([s.register for s in self._sequences])
        scopes = {PLAIN: ~chat, CHAT: chat} | {r: registers == r for r in sorted(set(registers.tolist()))}
        parts = [
            part_fidelity(name, scope, self._moments(mask), overall, config=config)
            for scope, mask in scopes.items()
            if self._kept[mask].sum() > 1
        ]
        return (overall, *parts)

    def _moments(self, mask: NDArray[np.bool_]) -> FidelityMoments:
        kept = self._kept[mask].astype(np.float64)
        tokens = float(kept.sum())
        centre = (kept[:, None] * self._means[mask]).sum(axis=0) / tokens
        squares, error, cosine = self._sums[:, mask].sum(axis=1)
        histogram = self._active[mask].sum(axis=0)
        counts = np.arange(len(histogram))
        below = np.cumsum(histogram) / histogram.sum()
        spliced = self._spliced[mask]
        total = spliced.sum(axis=0)
        documents = np.array([s.document for s, chosen in zip(self._sequences, mask, strict=True) if chosen])
        used = spliced[:, 0] > 0
        _, cluster = np.unique(documents[used], return_inverse=True)
        clusters = np.zeros((int(cluster.max()) + 1 if len(cluster) else 0, 3))
        np.add.at(clusters, cluster, spliced[used, :3])
        return FidelityMoments(
            tokens=int(tokens),
            total_variance=float(squares - tokens * float(centre @ centre)),
            error=float(error),
            cosine=float(cosine) / tokens,
            l0_mean=float((histogram * counts).sum() / histogram.sum()),
            l0_p05=float(counts[np.searchsorted(below, 0.05)]),
            l0_p95=float(counts[np.searchsorted(below, 0.95)]),
            spliced_tokens=int(total[0]),
            ce=float(total[1]),
            ce_spliced=float(total[2]),
            ce_ablated=float(total[3]),
            kl=float(total[4]),
            kl_random=float(total[5]),
            clusters=clusters,
        )


def _enough_sequences(bench: Bench, request: CheckRequest) -> list[TextSequence]:
    wanted = request.tokens if request.tokens is not None else _TOKENS
    sequences, found = bench.sequences(tokens=wanted, chat_share=request.chat_share)
    fewest = request.tokens if request.tokens is not None else _FEWEST_TOKENS
    if found < fewest:
        raise CorpusError(
            item=f"{bench.corpus.name}: {bench.selection}",
            expected=f"{fewest:,} tokens",
            found=f"{found:,}",
            hint="Give more text, or --all-documents if the SAE was not trained on this text"
            + (f", or ask for at most {found:,} with --tokens." if found >= _FEWEST_TOKENS else "."),
        )
    return sequences


def _spread(sequences: Sequence[TextSequence], *, tokens: int) -> list[TextSequence]:
    """Return sequences spread evenly over all, with about so many tokens."""
    total = sum(sum(s.content) for s in sequences)
    step = max(1, round(total / tokens))
    # Each format by itself: a stride over both could miss one.
    return [s for chat in (False, True) for s in [t for t in sequences if t.chat is chat][::step]]


def _require_plain_names(bench: Bench) -> None:
    taken = sorted({d.register for d in bench.documents} & {ALL, PLAIN, CHAT})
    if taken:
        raise CorpusError(
            item=f"{bench.corpus.name}: register {taken[0]!r}",
            expected=f"a name other than {ALL}, {PLAIN} and {CHAT}",
            found=taken[0],
            hint="The certificate uses these words for its own rows; rename the register.",
        )


def _ends(sae: Sae) -> tuple[str, int, str, int]:
    record = sae.record
    return record.site, record.width, record.target, record.target_width


def _stability(sae: Sae, other: Sae) -> SeedStability:
    if _ends(other) != _ends(sae):
        raise SaeInvalid(
            item=f"--other-seed {other.record.name}",
            expected=f"an SAE of {sae.record.site}, width {sae.record.width}",
            found=f"{other.record.site}, width {other.record.width}",
            hint="Give another training of the same site.",
        )
    if other.record.digest == sae.record.digest or bool(
        (sae.w_enc.shape == other.w_enc.shape) and (sae.w_enc == other.w_enc).all()
    ):
        raise SaeInvalid(
            item=f"--other-seed {other.record.name}",
            expected="another training",
            found="the same weights",
            hint="Train one with another --seed.",
        )
    return match_seeds(
        sae.w_enc.cpu().numpy(),
        sae.w_dec.cpu().numpy(),
        other.w_enc.cpu().numpy(),
        other.w_dec.cpu().numpy(),
        random_decoder(other.record.latents, other.record.width, seed=SEED).numpy(),
        other=other.record.name,
        other_digest=other.record.digest,
    )


def _curve(source: str) -> tuple[TrainingPoint, ...]:
    points = training_of(source).get("curve")
    if not isinstance(points, list) or not points:
        return ()
    step = max(1, -(-len(points) // _CURVE_POINTS))
    thinned = points[::-1][::step][::-1]
    return tuple(
        parse_record(
            TrainingPoint, {k: dict(point).get(k) for k in ("updates", "fvu_plain", "fvu_chat", "dead")}, where="curve"
        )
        for point in thinned
    )
