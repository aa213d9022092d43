"""An SAE on its model and a text: what `sae check` and `sae inspect` both work with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from audit.capture.fitting import Fitted, fit_sae, stations
from audit.capture.formats.own import CARD_FILE
from audit.capture.jobs import run_halving
from audit.capture.model import LoadedModel, load_model
from audit.capture.runner import Captured, Station, calibrate
from audit.capture.sae import Sae
from audit.capture.sae_sources import load_sae, locate_sae
from audit.capture.sites import Site
from audit.config import ModelConfig
from audit.errors import CorpusError
from audit.progress import Progress
from audit.training.batches import batches_by_format
from audit.training.corpus import HELD_OUT_ONE_IN, Corpus, Document, load_corpus
from audit.training.sequences import SequenceMaker, TextSequence, take_tokens

SEED = 20260101
BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Prepared:
    """The SAE's station with its outlier limit, and what ablation puts in place of the activation."""

    station: Station
    ablation: Tensor


@dataclass(frozen=True, slots=True)
class Bench:
    """An SAE with its model and text, ready to be measured."""

    fitted: Fitted
    model: LoadedModel
    corpus: Corpus
    documents: tuple[Document, ...]
    selection: str
    outlier_factor: float

    def sequences(self, *, tokens: int, chat_share: float) -> tuple[list[TextSequence], int]:
        """Return the first sequences of the text that hold so many tokens of its own, and how many they hold.

        Args:
            tokens: wanted; where the text has fewer, all of it is returned.
            chat_share: share of them in the model's chat template; without one all are plain.
        """
        share = chat_share if self.model.record.chat_template else 0.0
        context = self.model.context_tokens
        maker = SequenceMaker(self.model.tokenizer, chat_share=share, seed=SEED, context_tokens=context)
        return take_tokens(maker, self.documents, tokens=tokens)

    @property
    def sae(self) -> Sae:
        """Return the SAE on the model's device."""
        return self.fitted.sae

    @property
    def site(self) -> Site:
        """Return where it reads."""
        return self.fitted.site

    def prepare(self, sequences: Sequence[TextSequence]) -> Prepared:
        """Calibrate the SAE's sites on some of the sequences."""
        calibrations = calibrate(self.model, self.fitted.sites, sequences, factor=self.outlier_factor)
        fitted = self.fitted.calibrated(calibrations)
        (station,) = stations((fitted,), calibrations)
        return Prepared(station, fitted.ablation(calibrations))

    def read(self, sequences: Sequence[TextSequence], prepared: Prepared) -> Iterator[tuple[int, Captured]]:
        """Run the sequences; yield how many a batch had and what it gave."""
        highest = max(prepared.station.sites, key=lambda site: site.depth)
        for batch in batches_by_format(self.model, sequences, upto=highest, batch_tokens=BATCH_TOKENS):
            yield len(batch.prompts), run_halving(self.model, (prepared.station,), batch)


def open_bench(
    sae_source: str, model_config: ModelConfig, text: Path, *, all_documents: bool, progress: Progress
) -> Bench:
    """Load an SAE, its model and a text, and choose the documents that may be used.

    Args:
        sae_source: any source of docs/sae-formats.md.
        model_config: the model.
        text: a corpus file.
        all_documents: not only those that every training holds out.
        progress: listener.

    Raises:
        AffidavitError: a part is missing or damaged, or they do not belong together.
    """
    sae = load_sae(sae_source)
    corpus = load_corpus(text, seed=SEED)
    documents = corpus.documents if all_documents else corpus.split(held_out=True)
    if not documents:
        raise CorpusError(
            item=corpus.name,
            expected=f"documents that every training holds out, 1 in {HELD_OUT_ONE_IN} by digest",
            found=f"none among {len(corpus.documents)} documents",
            hint="Give more documents, or --all-documents if the SAE was not trained on this text.",
        )
    progress.say("loading the model")
    model = load_model(model_config, say=progress.say)
    return Bench(
        fitted=fit_sae(sae, model),
        model=model,
        corpus=corpus,
        documents=documents,
        selection=(
            "all documents; whether the SAE was trained on some of them was not checked"
            if all_documents
            else f"documents held out of every training, 1 in {HELD_OUT_ONE_IN} by digest"
        ),
        outlier_factor=_outlier_factor(training_of(sae_source)),
    )


def training_of(source: str) -> dict[str, object]:
    """Return what an SAE's card says of its training; nothing where it is in another format."""
    path = locate_sae(source) / CARD_FILE
    if not path.is_file():
        return {}
    card = json.loads(path.read_text(encoding="utf-8"))
    training = card["training"]
    return dict(training) if isinstance(training, dict) else {}


def _outlier_factor(training: Mapping[str, object]) -> float:
    harvest = training.get("harvest")
    factor = harvest.get("outlier_norm_factor") if isinstance(harvest, dict) else None
    return float(factor) if isinstance(factor, int | float) else 10.0
