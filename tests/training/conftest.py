"""Small corpora, planted activations and one SAE trained through the command line, for the tests of this room."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from audit.capture.model import LoadedModel, load_model
from audit.capture.sites import Site, SiteKind
from audit.cli.root import run
from audit.config import ModelConfig
from audit.progress import Silent
from audit.training import harvest as harvest_module
from audit.training.corpus import Corpus, Document, load_corpus
from audit.training.harvest import Activations, HarvestRecipe, HarvestRecord, harvest
from audit.training.topk import TopKRecipe, TopKTrainer
from tests.capture.conftest import save_model

NOUNS = [
    "nurse", "patient", "dose", "medicine", "morning", "ward", "doctor", "letter", "question", "answer",
    "teacher", "river", "market", "engine", "window", "garden", "paper", "table", "number", "colour", "music",
    "bread", "winter", "summer", "travel", "machine", "signal", "court", "budget", "loan",
]  # fmt: skip
VERBS = ["gives", "takes", "reads", "writes", "moves", "brings", "finds", "keeps", "follows", "answers", "measures"]
ARTICLES = ["the", "a", "this", "every", "another", "our"]
LIMITED = "dictionary"
CPU = torch.device("cpu")

SITE = Site(SiteKind.RESID_POST, 2)
RECIPE = HarvestRecipe(
    tokens=9000, held_out_tokens=1500, chat_share=0.3, register_limits={LIMITED: 0.1}, outlier_norm_factor=10.0, seed=0
)
# One part in the tests' folders holds so many tokens; the real ones hold 32,768.
PART_TOKENS = 3000

BATCH = 256
TOPK = TopKRecipe(
    latents=64, k=3, updates=400 * BATCH, seed=0, batch=BATCH, learning_rate=1e-2, warmup_steps=20, dead_after=2560
)

TRAINING = {
    "--site": "resid_post.2",
    "--latents": 128,
    "--k": 8,
    "--tokens": 20_000,
    "--updates": 256 * 600,
    "--batch": 256,
    "--learning-rate": 0.005,
    "--dtype": "fp32",
}

Command = Callable[..., int]


def make_texts(count: int, *, seed: int = 0) -> list[str]:
    """Return different texts of 4 to 14 sentences, each of four words or more."""
    rng = random.Random(seed)  # noqa: S311 - makes text, keeps no secret
    return [" ".join(_sentence(rng) for _ in range(rng.randint(4, 14))) for _ in range(count)]


def _sentence(rng: random.Random) -> str:
    words = [rng.choice(ARTICLES), rng.choice(NOUNS)]
    for _ in range(rng.randint(1, 3)):
        words += [rng.choice(VERBS), rng.choice(ARTICLES), rng.choice(NOUNS)]
    return " ".join(words).capitalize() + "."


def write_jsonl(path: Path, records: Iterable[Mapping[str, object]]) -> Path:
    """Write records as JSON lines, compressed as the name says."""
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    return write_bytes(path, data)


def write_bytes(path: Path, data: bytes) -> Path:
    """Write bytes, compressed as the name says."""
    codec = {".zst": "zstd", ".gz": "gzip"}.get(path.suffix)
    if codec is None:
        path.write_bytes(data)
    else:
        with pa.CompressedOutputStream(str(path), codec) as stream:
            stream.write(data)
    return path


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 400 documents, one in five of a register that is usually limited, all with a source and a licence."""
    records = [
        {
            "text": text,
            "register": LIMITED if number % 5 == 0 else "web",
            "source": "made",
            "licence": "CC0-1.0",
        }
        for number, text in enumerate(make_texts(400))
    ]
    return write_jsonl(tmp_path_factory.mktemp("corpus") / "corpus.jsonl.zst", records)


@pytest.fixture(scope="session")
def corpus(corpus_path: Path) -> Corpus:
    """Return the 400 documents in the order of seed 0."""
    return load_corpus(corpus_path, seed=0)


@pytest.fixture(scope="session")
def documents(corpus: Corpus) -> tuple[Document, ...]:
    """Return the 400 documents in the order of seed 0."""
    return corpus.documents


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small random llama with a chat template."""
    return save_model(tmp_path_factory.mktemp("model") / "small", "llama")


@pytest.fixture(scope="session")
def model(model_folder: Path) -> LoadedModel:
    """Return the small llama in float32. Tests must not change it."""
    return load_model(ModelConfig(source=str(model_folder)))


def write_rows(folder: Path, side: str, rows: Tensor, *, chat: Tensor | None = None) -> None:
    """Write (tokens, d_model) rows as a harvest of one part."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = torch.zeros(len(rows), 2, dtype=torch.uint8)
    if chat is not None:
        meta[:, 1] = chat
    np.save(folder / f"{side}-00000.rows.npy", rows.bfloat16().view(torch.int16).numpy().view(np.uint16))
    np.save(folder / f"{side}-00000.meta.npy", meta.numpy())


@dataclass(frozen=True, slots=True)
class Planted:
    """Activations that a known sparse dictionary made.

    Args:
        directions: (directions, d_model) unit rows.
        rows: (tokens, d_model) float32 as the trainer reads them, rounded to bf16.
    """

    train: Activations
    held: Activations
    directions: Tensor
    rows: Tensor

    def trainer(self, recipe: TopKRecipe) -> TopKTrainer:
        """Return a trainer on these activations."""
        return TopKTrainer(recipe, self.train, self.held, device=CPU)


def plant(folder: Path, *, directions: int, width: int, active: int, rows: int = 20_000) -> Planted:
    """Write activations: a few active directions with coefficients from 0.5 to 1.5 a row, plus an offset, times 5."""
    generator = torch.Generator().manual_seed(99)
    dictionary = torch.randn(directions, width, generator=generator)
    dictionary /= dictionary.norm(dim=1, keepdim=True)
    offset = torch.randn(width, generator=generator)
    total = rows + 2000
    chosen = torch.rand(total, directions, generator=generator).topk(active, dim=1).indices
    coefficients = torch.rand(total, active, generator=generator) + 0.5
    made = (torch.zeros(total, directions).scatter_(1, chosen, coefficients) @ dictionary + offset) * 5
    write_rows(folder, "train", made[:rows])
    write_rows(folder, "held", made[rows:], chat=torch.arange(2000) % 2)
    return Planted(
        Activations(folder, "train"), Activations(folder, "held"), dictionary, made[:rows].bfloat16().float()
    )


def finish(trainer: TopKTrainer, *, until: int | None = None) -> float:
    """Train to a step, or to the end, and return the last loss."""
    loss = float("nan")
    while trainer.step < (until or trainer.recipe.steps):
        loss = trainer.advance()
    return loss


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Return 20,000 rows of width 24 from 32 directions, 3 active."""
    return plant(tmp_path_factory.mktemp("planted"), directions=32, width=24, active=3)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut parts small, so that a few thousand tokens make several."""
    monkeypatch.setattr(harvest_module, "_PART_TOKENS", PART_TOKENS)


def take(
    model: LoadedModel, corpus: Corpus, folder: Path, recipe: HarvestRecipe = RECIPE, *, site: Site = SITE
) -> HarvestRecord:
    """Harvest into a folder."""
    return harvest(model, site, corpus, recipe, folder=folder, progress=Silent())


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return time of change and bytes of each file."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())}


@pytest.fixture
def affidavit(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return the command line as a function from arguments to the exit code."""
    # The command sets the process's hook for crashes; pytest wants its own back.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return lambda *arguments: run([str(argument) for argument in arguments])


def train_arguments(model_folder: Path, corpus_path: Path, out: Path, **changes: object) -> list[str]:
    """Return the arguments of a short training, with some options changed; None leaves an option out."""
    options = {"--model": model_folder, "--corpus": corpus_path, "--out": out} | TRAINING
    options |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    given = [(name, value) for name, value in options.items() if value is not None]
    return ["sae", "train", *(str(word) for pair in given for word in pair)]


@pytest.fixture(scope="session")
def trained(model_folder: Path, corpus_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an SAE that `affidavit sae train` made without interruption. Tests must not change it."""
    out = tmp_path_factory.mktemp("trained") / "sae"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        assert run(train_arguments(model_folder, corpus_path, out)) == 0
    return out
