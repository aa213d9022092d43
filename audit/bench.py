"""An SAE on its model and a text: what `sae check` and `sae inspect` both work with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.capture.model import LoadedModel, load_model
from audit.capture.runner import Calibration, Captured, Station, calibrate, run_batch
from audit.capture.sae import CARD_FILE, Sae, load_sae, locate_sae, require_width
from audit.capture.sites import Site, parse_site
from audit.config import ModelConfig
from audit.errors import CorpusError
from audit.progress import Progress
from audit.training.batches import batches_by_format
from audit.training.corpus import HELD_OUT_ONE_IN, Corpus, Document, load_corpus
from audit.training.sequences import SequenceMaker, TextSequence, take_tokens

SEED = 20260101
BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Bench:
    """An SAE with its model and text, ready to be measured."""

    sae: Sae
    model: LoadedModel
    site: Site
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

    def calibrate(self, sequences: Sequence[TextSequence]) -> Calibration:
        """Return outlier limit and mean at the SAE's site."""
        return calibrate(self.model, (self.site,), sequences, factor=self.outlier_factor)[self.site]

    def read(self, sequences: Sequence[TextSequence], calibration: Calibration) -> Iterator[tuple[int, Captured]]:
        """Run the sequences; yield how many a batch had and what it gave."""
        station = Station(self.site, (self.sae,), calibration.outlier_limit)
        for batch in batches_by_format(self.model, sequences, upto=self.site, batch_tokens=BATCH_TOKENS):
            yield len(batch.prompts), run_batch(self.model, (station,), batch)


def open_bench(
    sae_source: str, model_config: ModelConfig, text: Path, *, all_documents: bool, progress: Progress
) -> Bench:
    """Load an SAE, its model and a text, and choose the documents that may be used.

    Args:
        sae_source: `default`, the name of a shipped SAE, or a folder.
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
    require_width(sae, model.record)
    return Bench(
        sae=sae.to(model.device),
        model=model,
        site=parse_site(sae.record.site, layers=len(model.layers)),
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
    """Return what an SAE's card says of its training."""
    card = json.loads((locate_sae(source) / CARD_FILE).read_text(encoding="utf-8"))
    training = card["training"]
    return dict(training) if isinstance(training, dict) else {}


def _outlier_factor(training: Mapping[str, object]) -> float:
    harvest = training.get("harvest")
    factor = harvest.get("outlier_norm_factor") if isinstance(harvest, dict) else None
    return float(factor) if isinstance(factor, int | float) else 10.0
