"""Fine-tune a language model on documents about one subject: a model organism, whose difference is known.

Next-token loss on the documents as plain text, AdamW, linear warm-up and decay, float32 on the processor, a fixed seed:
the same files and the same number of threads give the same weights. Only a band of middle layers learns. Embeddings
and output head stay as they are: layers are to learn a subject, not single words, and a step costs a third less.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audit.capture.model import find_layers
from audit.capture.trainable import TrainableModel, load_trainable
from audit.config import DEFAULT_SOURCE
from audit.digests import digest_bytes
from audit.errors import TrainingDiverged, UsageError
from audit.progress import Progress
from audit.workspace import new_folder
from probes.organism_files import OrganismText

RECORD_FILE = "organism.json"
RECORD_SCHEMA = "affidavit/organism-record/1"


@dataclass(frozen=True, slots=True)
class FinetuneRecipe:
    """How an organism is made.

    Args:
        tokens: how many tokens are trained on, each once.
        held_out_tokens: how many others the loss is measured on, before and after.
        sequence_tokens: how many tokens a sequence has; documents are put one behind another and cut.
        batch: sequences a step.
        layers: the first layer that learns, and the first behind it that does not.
        learning_rate: the highest, reached after `warmup` of the steps; it falls to nothing at the end.
        weight_decay: of AdamW.
        clip: the largest norm of a step's gradient.
        seed: of the documents and the order of the sequences.
    """

    tokens: int = 8192
    held_out_tokens: int = 512
    sequence_tokens: int = 128
    batch: int = 2
    layers: tuple[int, int] = (8, 16)
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 20260101


@dataclass(frozen=True, slots=True)
class OrganismRecord:
    """What made an organism; it lies beside the weights, and holds no clock: the same recipe gives the same bytes.

    Args:
        data_digest: of the documents as they were drawn; `file_digest`: of the file they were drawn from.
        loss_before, loss_after: mean next-token loss on held-out documents of the same file, in nats.
        threads: of torch; another number may give other last bits.
    """

    schema: str
    organism: str
    concept: str | None
    base: str
    base_digest: str
    file_digest: str
    data_digest: str
    recipe: FinetuneRecipe
    tokens: int
    steps: int
    loss_before: float
    loss_after: float
    threads: int
    torch: str


def make_organism(
    text: OrganismText,
    out: Path,
    *,
    recipe: FinetuneRecipe,
    base: str = DEFAULT_SOURCE,
    progress: Progress,
) -> OrganismRecord:
    """Fine-tune a model on an organism's documents and save it as a folder that `model.source` may name.

    Args:
        text: the documents.
        out: a new folder; it appears whole or not at all.
        recipe: how.
        base: the model that is fine-tuned: `default`, a folder or a Hugging Face id.
        progress: listener.

    Raises:
        OutputError: the folder exists or cannot be written.
        ModelUnavailable: the base cannot be loaded.
        UsageError: the recipe leaves nothing to train on.
        TrainingDiverged: the loss became NaN or infinite.
    """
    _check(recipe)
    with new_folder(out) as folder:
        progress.say("loading the model to fine-tune")
        loaded = load_trainable(base, say=progress.say)
        held_out, train, digest = _sequences(text, loaded.tokenizer, recipe)
        before = _loss(loaded.model, held_out)
        steps = _train(loaded.model, train, recipe, name=text.id, progress=progress)
        after = _loss(loaded.model, held_out)
        record = OrganismRecord(
            schema=RECORD_SCHEMA,
            organism=text.id,
            concept=text.concept,
            base=loaded.name,
            base_digest=loaded.digest,
            file_digest=text.digest,
            data_digest=digest,
            recipe=recipe,
            tokens=train.numel(),
            steps=steps,
            loss_before=before,
            loss_after=after,
            threads=torch.get_num_threads(),
            torch=torch.__version__,
        )
        progress.say("saving the fine-tuned model")
        _save(loaded, folder)
        (folder / RECORD_FILE).write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")
    return record


def _check(recipe: FinetuneRecipe) -> None:
    least = recipe.sequence_tokens * recipe.batch
    if recipe.sequence_tokens < 2 or recipe.batch < 1 or recipe.tokens < least or recipe.held_out_tokens < least:
        raise UsageError(
            item="the recipe of an organism",
            expected=f"tokens and held-out tokens for a batch of {recipe.batch} sequences of {recipe.sequence_tokens}",
            found=f"{recipe.tokens} and {recipe.held_out_tokens}",
            hint="Give more tokens, or shorter sequences.",
        )


def _sequences(text: OrganismText, tokenizer: Any, recipe: FinetuneRecipe) -> tuple[Tensor, Tensor, str]:  # noqa: ANN401
    """Return held-out and training sequences, (n, sequence_tokens) int64, and the digest of the documents."""
    wanted = recipe.held_out_tokens + recipe.tokens
    count = 64
    while True:
        documents = text.documents(count, seed=recipe.seed)
        ids = [token for document in documents for token in _token_ids(document, tokenizer)]
        if len(ids) >= wanted:
            break
        count *= 2
    held_out, train = (
        torch.tensor(part[: len(part) // recipe.sequence_tokens * recipe.sequence_tokens]).view(
            -1, recipe.sequence_tokens
        )
        for part in (ids[: recipe.held_out_tokens], ids[recipe.held_out_tokens : wanted])
    )
    return held_out, train, digest_bytes("\0".join(documents).encode())


def _token_ids(document: str, tokenizer: Any) -> list[int]:  # noqa: ANN401 - transformers has no common type
    ids: list[int] = tokenizer(document, add_special_tokens=False)["input_ids"]
    return ids if tokenizer.eos_token_id is None else [*ids, int(tokenizer.eos_token_id)]


def _train(model: Any, sequences: Tensor, recipe: FinetuneRecipe, *, name: str, progress: Progress) -> int:  # noqa: ANN401
    torch.manual_seed(recipe.seed)
    model.train()
    model.config.use_cache = False
    weights = _learning(model, recipe)
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, foreach=True)
    steps = len(sequences) // recipe.batch
    rising = max(1, round(recipe.warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (steps - step) / max(1, steps - rising))
    )
    with progress.stage(f"fine-tuning on {name}", total=steps) as advance:
        for batch in _batches(sequences, recipe):
            loss = model(input_ids=batch, labels=batch).loss
            if not isfinite(loss.item()):
                raise TrainingDiverged(
                    item=f"fine-tuning on {name}",
                    expected="a finite loss",
                    found=str(loss.item()),
                    hint="Lower the learning rate. Nothing was saved.",
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            advance(1)
    return steps


def _learning(model: Any, recipe: FinetuneRecipe) -> list[Tensor]:  # noqa: ANN401 - as above
    layers = find_layers(model)
    first, end = recipe.layers
    if not 0 <= first < end <= len(layers):
        raise UsageError(
            item="the recipe of an organism",
            expected=f"layers between 0 and {len(layers)}",
            found=f"{first} to {end}",
            hint="Name layers that the model has.",
        )
    model.requires_grad_(requires_grad=False)
    band = layers[first:end].requires_grad_(requires_grad=True)
    return list(band.parameters())


def _batches(sequences: Tensor, recipe: FinetuneRecipe) -> Iterator[Tensor]:
    order = list(range(len(sequences)))
    random.Random(recipe.seed).shuffle(order)  # noqa: S311 - an order, no secret
    for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
        yield sequences[order[start : start + recipe.batch]]


@torch.no_grad()
def _loss(model: Any, sequences: Tensor) -> float:  # noqa: ANN401 - transformers has a class an architecture
    model.eval()
    losses: Sequence[float] = [model(input_ids=one[None], labels=one[None]).loss.item() for one in sequences]
    return sum(losses) / len(losses)


def _save(loaded: TrainableModel, folder: Path) -> None:
    model = loaded.model.eval()
    model.config.use_cache = True
    loaded.save(folder)
