"""Residual activations of a corpus on disk: bf16, in parts that a killed run does not compute twice."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.capture.batches import Batch
from audit.capture.model import LoadedModel
from audit.capture.runner import calibrate
from audit.capture.sites import Site, read_site
from audit.digests import canonical_json, digest_bytes
from audit.errors import CorpusError, EvidenceError, OutputError, TooLarge
from audit.progress import Progress
from audit.training.batches import batches_by_format
from audit.training.corpus import HELD_OUT_ONE_IN, Corpus
from audit.training.sequences import SequenceMaker, TextSequence, take_tokens
from audit.workspace import hold

_PART_TOKENS = 32_768
_BATCH_TOKENS = 2048
_BYTES = 2
_INDEX = "harvest.json"
_SIDES = {"train": False, "held": True}

BitsArray = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class HarvestRecipe:
    """What decides the activations, besides model, site and corpus.

    Args:
        tokens: how many content tokens to train on.
        held_out_tokens: how many of the held-out documents to watch the training by.
        chat_share: wanted share of tokens in the chat template.
        register_limits: largest share of tokens of a register.
        outlier_norm_factor: positions with a norm beyond this multiple of the median are dropped and counted.
        seed: of the order of documents and of the cuts into turns.
    """

    tokens: int
    held_out_tokens: int
    chat_share: float
    register_limits: dict[str, float]
    outlier_norm_factor: float
    seed: int


@dataclass(frozen=True, slots=True)
class HarvestRecord:
    """What was harvested, for the training card."""

    tokens: int
    held_out_tokens: int
    chat_share: float
    register_shares: dict[str, float]
    outliers_excluded: int
    outlier_limit: float
    sequences: int
    documents: int
    duplicates: int
    unverified_licences: int


class Activations:
    """The rows of one side of a harvest, read from disk as they are needed.

    Args:
        folder: of the harvest.
        side: `train` or `held`.
    """

    def __init__(self, folder: Path, side: str) -> None:
        paths = sorted(folder.glob(f"{side}-*.rows.npy"))
        self._parts: list[BitsArray] = [np.load(path, mmap_mode="r") for path in paths]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.chat: NDArray[np.bool_] = np.concatenate(
            [np.load(path.with_name(path.name.replace(".rows.", ".meta.")))[:, 1] for path in paths]
        ).astype(bool)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return (len(rows), d_model) float32.

        Args:
            rows: ascending row numbers.
        """
        bounds = np.searchsorted(rows, self._starts)
        pieces = [
            np.asarray(part[rows[low:high] - start])
            for part, start, low, high in zip(self._parts, self._starts[:-1], bounds[:-1], bounds[1:], strict=True)
            if high > low
        ]
        return _from_bits(np.concatenate(pieces)).float()


def harvest(
    model: LoadedModel, site: Site, corpus: Corpus, recipe: HarvestRecipe, *, folder: Path, progress: Progress
) -> HarvestRecord:
    """Write the activations of a corpus to a folder; parts that are there already are not run again.

    Args:
        model: as loaded, usually in bf16.
        site: where to read.
        corpus: what to read.
        recipe: how.
        folder: where to. One that holds another harvest is refused.
        progress: listener.

    Raises:
        CorpusError: too few tokens.
        TooLarge: the disk has no room for the activations.
        EvidenceError: the model gave NaN or infinity.
        OutputError: the folder cannot be written, or holds activations of something else.
    """
    with hold(folder / ".lock", item=folder):
        _claim(folder, model, site, corpus, recipe)
        if (record := _finished(folder)) is not None:
            return record
        try:
            return _harvest(model, site, corpus, recipe, folder=folder, progress=progress)
        finally:
            # Refused before the first part: nothing half-made stays.
            if not any(folder.glob("*.npy")):
                (folder / _INDEX).unlink(missing_ok=True)


def _harvest(
    model: LoadedModel, site: Site, corpus: Corpus, recipe: HarvestRecipe, *, folder: Path, progress: Progress
) -> HarvestRecord:
    if recipe.chat_share > 0 and not model.record.chat_template:
        progress.say(f"{model.record.name} has no chat template: all sequences are plain text")
    progress.say("cutting the corpus into sequences")
    sides = {side: _parts(model, corpus, recipe, held_out=held_out) for side, held_out in _SIDES.items()}
    _require_disk(folder, recipe, model.record.width)
    calibration = calibrate(model, (site,), sides["train"][0], factor=recipe.outlier_norm_factor)
    limit = calibration[site].outlier_limit
    registers = sorted({s.register for parts in sides.values() for part in parts for s in part})
    outliers = 0
    with progress.stage("harvesting activations", total=recipe.tokens + recipe.held_out_tokens) as advance:
        for side, parts in sides.items():
            for number, part in enumerate(parts):
                name = folder / f"{side}-{number:05d}"
                if not (_meta(name).exists() and _rows(name).exists()):
                    _write_part(name, *_run_part(model, site, part, limit=limit, registers=registers))
                count = sum(sum(s.content) for s in part)
                outliers += count - len(np.load(_meta(name), mmap_mode="r"))
                advance(count)
    record = _summarise(folder, sides, registers, corpus, outliers=outliers, limit=limit)
    _write_text(folder / _INDEX, json.dumps(_index(folder) | {"record": asdict(record)}, indent=1))
    return record


def _claim(folder: Path, model: LoadedModel, site: Site, corpus: Corpus, recipe: HarvestRecipe) -> None:
    key = digest_bytes(
        canonical_json([model.record.digest, model.record.dtype, str(site), corpus.digest, asdict(recipe)])
    )
    if not (folder / _INDEX).exists() and not any(folder.glob("*.npy")):
        _write_text(folder / _INDEX, json.dumps({"key": key}))
    elif not (folder / _INDEX).exists() or _index(folder).get("key") != key:
        raise OutputError(
            item=str(folder),
            expected="activations of this model, site, corpus and recipe, or an empty folder",
            found="activations of another",
            hint="Choose another folder, or delete this one.",
        )


def _finished(folder: Path) -> HarvestRecord | None:
    """Return the record of a harvest whose parts are all there."""
    loaded = _index(folder).get("record")
    if not isinstance(loaded, dict):
        return None
    record = HarvestRecord(**loaded)
    there = {side: sum(len(np.load(p, mmap_mode="r")) for p in folder.glob(f"{side}-*.meta.npy")) for side in _SIDES}
    whole = all(path.with_name(path.name.replace(".meta.", ".rows.")).exists() for path in folder.glob("*.meta.npy"))
    return record if whole and there == {"train": record.tokens, "held": record.held_out_tokens} else None


def _index(folder: Path) -> dict[str, object]:
    try:
        return dict(json.loads((folder / _INDEX).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise OutputError(
            item=str(folder / _INDEX),
            expected="the index of a harvest",
            found=str(error),
            hint="Delete the folder; the activations are computed again.",
        ) from error


def _parts(model: LoadedModel, corpus: Corpus, recipe: HarvestRecipe, *, held_out: bool) -> list[list[TextSequence]]:
    wanted = recipe.held_out_tokens if held_out else recipe.tokens
    maker = SequenceMaker(
        model.tokenizer,
        chat_share=recipe.chat_share if model.record.chat_template else 0.0,
        seed=recipe.seed,
        register_limits=recipe.register_limits,
        context_tokens=model.context_tokens,
    )
    sequences, found = take_tokens(maker, corpus.split(held_out=held_out), tokens=wanted)
    # Held-out tokens only draw the curve: what there is will do.
    if found < wanted and not (held_out and found > 0):
        raise CorpusError(
            item=f"{corpus.name}, {'held-out' if held_out else 'training'} documents",
            expected=f"{wanted:,} tokens",
            found=f"{found:,}",
            hint=_more_text(found, held_out=held_out),
        )
    parts: list[list[TextSequence]] = [[]]
    filled = 0
    for sequence in sequences:
        if filled >= _PART_TOKENS:
            parts.append([])
            filled = 0
        parts[-1].append(sequence)
        filled += sum(sequence.content)
    return parts


def _more_text(found: int, *, held_out: bool) -> str:
    if held_out:
        return f"Give more documents: 1 in {HELD_OUT_ONE_IN} by digest is held out to watch the training by."
    if found:
        return f"Give more text, ask for at most {found:,} with --tokens, or loosen --register-limit."
    return "Give more text, or loosen --register-limit."


def _require_disk(folder: Path, recipe: HarvestRecipe, width: int) -> None:
    needed = int((recipe.tokens + recipe.held_out_tokens) * width * _BYTES * 1.02)
    there = sum(path.stat().st_size for path in folder.glob("*.rows.npy"))
    free = shutil.disk_usage(folder).free
    if needed - there > free:
        raise TooLarge(
            item=f"activations of {recipe.tokens:,} tokens of width {width}",
            expected=f"{needed / 1e9:.1f} GB of disk in {folder}",
            found=f"{free / 1e9:.1f} GB free",
            hint="Ask for fewer --tokens, or put --activations on another disk.",
        )


def _run_part(
    model: LoadedModel, site: Site, part: list[TextSequence], *, limit: float, registers: list[str]
) -> tuple[BitsArray, NDArray[np.uint16]]:
    rows: list[BitsArray] = []
    meta: list[NDArray[np.uint16]] = []
    for batch in batches_by_format(model, part, upto=site, batch_tokens=_BATCH_TOKENS):
        kept, bits = _run_batch(model, site, batch, limit=limit)
        rows.append(bits)
        own = np.array([[registers.index(s.register), s.chat] for s in batch.prompts], dtype=np.uint16)
        meta.append(own[kept.nonzero()[:, 0].numpy()])
    return np.concatenate(rows), np.concatenate(meta)


def _run_batch(model: LoadedModel, site: Site, batch: Batch[TextSequence], *, limit: float) -> tuple[Tensor, BitsArray]:
    residual = read_site(model.model, model.layers, site, batch.inputs(model))
    norms = residual.float().norm(dim=-1).cpu()
    if not bool(torch.isfinite(norms[batch.content]).all()):
        raise EvidenceError(
            item=f"residual stream at {site}",
            expected="finite activations",
            found="NaN or infinity",
            hint="Harvest with --dtype fp32; if it persists the weights are damaged.",
        )
    kept = batch.content & (norms <= limit)
    return kept, _to_bits(residual.cpu()[kept])


def _summarise(
    folder: Path,
    sides: dict[str, list[list[TextSequence]]],
    registers: list[str],
    corpus: Corpus,
    *,
    outliers: int,
    limit: float,
) -> HarvestRecord:
    metas = {side: np.concatenate([np.load(p) for p in sorted(folder.glob(f"{side}-*.meta.npy"))]) for side in sides}
    counts = np.bincount(metas["train"][:, 0], minlength=len(registers))
    return HarvestRecord(
        tokens=len(metas["train"]),
        held_out_tokens=len(metas["held"]),
        chat_share=round(float(metas["train"][:, 1].mean()), 4),
        register_shares={
            name: round(float(n) / len(metas["train"]), 4) for name, n in zip(registers, counts, strict=True)
        },
        outliers_excluded=outliers,
        outlier_limit=limit,
        sequences=sum(len(part) for part in sides["train"]),
        documents=len({s.document for part in sides["train"] for s in part}),
        duplicates=corpus.duplicates,
        unverified_licences=corpus.unverified,
    )


def _meta(name: Path) -> Path:
    return name.with_name(f"{name.name}.meta.npy")


def _rows(name: Path) -> Path:
    return name.with_name(f"{name.name}.rows.npy")


def _write_part(name: Path, rows: BitsArray, meta: NDArray[np.uint16]) -> None:
    # The meta file comes last and by renaming: where it is, the part is whole.
    for path, array in ((_rows(name), rows), (_meta(name), meta)):
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            with unfinished.open("wb") as stream:
                np.save(stream, array)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise _cannot_write(path, error) from error


def _write_text(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        item=str(path),
        expected="room to write activations",
        found=error.strerror or type(error).__name__,
        hint="Free space and run again; finished parts are kept.",
    )


def _to_bits(rows: Tensor) -> BitsArray:
    return rows.bfloat16().contiguous().view(torch.int16).numpy().view(np.uint16)


def _from_bits(bits: BitsArray) -> Tensor:
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
