"""Train an SAE from a model and a text: harvest, train, write weights and card."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from audit import __version__
from audit.capture.formats.own import CARD_FILE, CARD_SCHEMA, WEIGHTS_FILE
from audit.capture.model import LoadedModel, load_model
from audit.capture.site_check import check_site
from audit.capture.sites import Site, parse_site
from audit.config import ModelConfig
from audit.digests import Json, canonical_json, digest_bytes, digest_file
from audit.errors import CorpusError, OutputError, UsageError
from audit.progress import Progress
from audit.records import as_json
from audit.training.corpus import HELD_OUT_ONE_IN, Corpus, load_corpus
from audit.training.harvest import Activations, HarvestRecipe, HarvestRecord, harvest
from audit.training.sequences import CONTEXT_TOKENS
from audit.training.topk import CurvePoint, TopKRecipe, TopKTrainer, require_memory
from audit.workspace import open_workspace

_ACTIVATIONS = "activations"
_CHECKPOINT = "checkpoint.safetensors"
_WATCH_STEPS = 200
_FEWEST_TOKENS_A_LATENT = 10


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What to train, on what, and where it goes.

    Args:
        model: the model; `dtype` is the arithmetic of the forward pass.
        site: where the SAE reads, such as `resid_post.15`.
        corpus: the text.
        out: the SAE's folder, which must not exist or be empty.
        harvest: how activations are taken.
        recipe: how the weights are trained.
        activations: where activations are kept for further trainings; None keeps none.
        name: of the SAE; None names it by model and site.
        licence: under which the weights may be used; None says that it was not stated.
    """

    model: ModelConfig
    site: str
    corpus: Path
    out: Path
    harvest: HarvestRecipe
    recipe: TopKRecipe
    activations: Path | None = None
    name: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class TrainedSae:
    """A finished SAE folder and the last point of its curve."""

    folder: Path
    weights_digest: str
    last: CurvePoint


def train_sae(request: TrainingRequest, *, progress: Progress) -> TrainedSae:
    """Train an SAE and write its folder in one step; a killed training resumes at its last checkpoint.

    Args:
        request: what to train.
        progress: listener.

    Raises:
        AffidavitError: too few tokens, no such site, too little memory or disk, NaN in the activations or the loss.
        Nothing half-written carries the folder's name, and what was finished stays for the next try.
    """
    _check(request)
    with open_workspace(request.out) as workspace:
        folder = workspace.folder
        progress.say("loading the model")
        model = load_model(request.model, say=progress.say)
        site = parse_site(request.site, layers=len(model.layers))
        width = check_site(model.model, model.layers, site, name=request.site)
        require_memory(request.recipe, width)
        corpus = load_corpus(request.corpus, seed=request.harvest.seed)
        store = request.activations or folder / _ACTIVATIONS
        harvested = harvest(model, site, corpus, request.harvest, folder=store, progress=progress)
        device = model.device
        trainer = TopKTrainer(request.recipe, Activations(store, "train"), Activations(store, "held"), device=device)
        key = digest_bytes(canonical_json([str(site), corpus.digest, asdict(harvested), asdict(request.recipe)]))
        last = _train(trainer, folder / _CHECKPOINT, key=key, progress=progress)
        digest = _write_weights(folder / WEIGHTS_FILE, trainer.exported())
        card = _card(request, model, corpus, site, harvested=harvested, trainer=trainer, weights_digest=digest)
        _write_card(folder / CARD_FILE, card)
        # The checkpoint goes last: a kill in between costs activations, never steps.
        shutil.rmtree(folder / _ACTIVATIONS, ignore_errors=True)
        (folder / _CHECKPOINT).unlink(missing_ok=True)
        workspace.publish()
    return TrainedSae(request.out, digest, last)


def _check(request: TrainingRequest) -> None:
    recipe = request.recipe
    if not 0 < recipe.k <= recipe.latents:
        raise UsageError(
            item="--k", expected=f"1 to {recipe.latents}, the number of latents", found=str(recipe.k), hint="Change it."
        )
    fewest = _FEWEST_TOKENS_A_LATENT * recipe.latents
    if request.harvest.tokens < fewest:
        raise CorpusError(
            item=f"--tokens for {recipe.latents:,} latents",
            expected=f"at least {fewest:,}, {_FEWEST_TOKENS_A_LATENT} a latent",
            found=f"{request.harvest.tokens:,}",
            hint="Give more text or fewer latents; an SAE with fewer tokens only memorises them.",
        )


def _train(trainer: TopKTrainer, checkpoint: Path, *, key: str, progress: Progress) -> CurvePoint:
    steps = trainer.recipe.steps
    if trainer.resume(checkpoint, key=key):
        progress.say(f"resuming at step {trainer.step:,} of {steps:,}")
    with progress.stage("training", total=steps) as advance:
        advance(trainer.step)
        while trainer.step < steps:
            loss = trainer.advance()
            advance(1)
            if trainer.step % _WATCH_STEPS == 0 or trainer.step == steps:
                trainer.watch(loss)
                trainer.save(checkpoint, key=key)
    return trainer.curve[-1]


def _write_weights(path: Path, tensors: Mapping[str, Tensor]) -> str:
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        save_file(dict(tensors), unfinished, metadata={"format": "pt"})
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        raise _no_room(path, error) from error
    return digest_file(path)


def _write_card(path: Path, card: Mapping[str, Json]) -> None:
    try:
        path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise _no_room(path, error) from error


def _no_room(path: Path, error: Exception) -> OutputError:
    return OutputError(
        item=str(path), expected="room to write the SAE", found=str(error), hint="Free space, run again."
    )


def _card(
    request: TrainingRequest,
    model: LoadedModel,
    corpus: Corpus,
    site: Site,
    *,
    harvested: HarvestRecord,
    trainer: TopKTrainer,
    weights_digest: str,
) -> dict[str, Json]:
    recipe = request.recipe
    decoder = "trained" if recipe.decoder_seed is None else "random and frozen"
    sources = sorted({(d.source, d.licence) for d in corpus.documents if d.source})
    return {
        "schema": CARD_SCHEMA,
        "name": request.name or f"{model.record.name.lower()}.{site}",
        "site": str(site),
        "architecture": "topk",
        "latents": recipe.latents,
        "k": recipe.k,
        "d_model": trainer.width,
        "licence": request.licence or "not stated",
        "weights_digest": weights_digest,
        "decoder_seed": recipe.decoder_seed,
        "model": {
            "name": model.record.name,
            "source": model.record.source,
            "digest": model.record.digest,
            "dtype": model.record.dtype,
        },
        "training": {
            "tool": f"affidavit {__version__}",
            "data": corpus.name,
            "data_digest": corpus.digest,
            "tokens": harvested.tokens,
            "updates": recipe.steps * recipe.batch,
            "steps": recipe.steps,
            "decoder": decoder,
            "optimiser": "Adam, betas 0.9 and 0.999, gradient norm clipped to 1",
            "schedule": "linear warm-up, constant, linear fall to 2% of the peak",
            "decoder_norm": 1,
            "context_tokens": CONTEXT_TOKENS,
            "held_out": f"1 document in {HELD_OUT_ONE_IN} by digest, never trained on",
            "recipe": as_json(asdict(recipe)),
            "harvest": as_json(asdict(request.harvest)),
            "harvested": as_json(asdict(harvested)),
            "curve": [as_json(asdict(point)) for point in trainer.curve],
            "versions": {name: version(name) for name in ("torch", "transformers")}
            | {"python": platform.python_version()},
            "device": str(torch.cuda.get_device_name()) if model.device.type == "cuda" else "cpu",
            "corpus_sources": [{"source": source, "licence": licence} for source, licence in sources],
        },
    }
