"""Evidence of a model with known features, and of other versions of it with known edits, through the real store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.capture.shards import RowBlock, SequenceMoments, make_shard, write_shard
from audit.differences.parents import Opened
from audit.digests import canonical_json, digest_bytes
from audit.evidence.store import ACTIVATIONS, create_store
from audit.printing import Record
from audit.records import (
    Colour,
    ConceptResult,
    Contrast,
    DiffParent,
    Findings,
    InstrumentResult,
    Lexical,
    MixResult,
    Reading,
    Rung,
    SuiteRecord,
    as_json,
)
from audit.signing.keys import Signer
from tests.redaction_making import SALTS, seal_evidence
from tests.reports.fixtures.audits import make_findings, make_run
from tests.reports.fixtures.basics import OTHER_SAE, SAE, digest, fidelity
from tests.reports.fixtures.concepts import contrast_result, finding
from tests.reports.fixtures.instruments import instrument_result

FloatArray = NDArray[np.float64]

CONCEPTS = ("dosing_error", "insider_trading", "civilian_harm")
DISCOVERY, CONFIRMATION, FEATURES, LATENTS, TOKENS, WIDTH = 40, 24, 6, 60, 8, 6
ARMS = ("concept", "control", "neutral")
MIX = "dosing_insider"
CELLS = ("00", "10", "01", "11", "0p", "1p")
SITE = "resid_post.15"
_TEMPLATE = 2


@dataclass(frozen=True, slots=True)
class Edit:
    """A feature that fires differently on the concept arm of its concept.

    `shift` and `spread` are the mean and the standard deviation over scenarios of what is added to its activation; the
    scores of a feature that is not edited have a standard deviation of about 1.
    """

    latent: int
    shift: float
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the model, or another SAE on it.

    Args:
        noise: relative rounding of every activation, as another batch order or dtype makes; drawn by `seed`.
        edits: features that changed.
        synergy: what is added to the first feature of the first concept where both concepts of the mix are.
        permuted: whether the SAE has its latents in another order.
        other_sae: whether another SAE reads it, whose latents have nothing to do with the first one's.
        answer: what is added to every answer on the concept arm of the first concept, in nats.
        fvu: of the SAE on this version.
        drift: what is added to the model's loss on every text, in nats a token.
        loss: and to that on the texts about the first concept.
    """

    noise: float = 0.0
    seed: int = 0
    edits: tuple[Edit, ...] = ()
    synergy: float = 0.0
    permuted: bool = False
    other_sae: bool = False
    answer: float = 0.0
    fvu: float = 0.16
    drift: float = 0.0
    loss: float = 0.0
    model: str = "model"
    suite: str = "suite"
    pieces: str = "word"
    config: dict[str, object] = field(default_factory=dict)


def seal_version(folder: Path, version: Version, signer: Signer) -> Path:
    """Write the bundle of a version, sealed, and return it."""
    write_evidence(folder, version)
    (folder / "salts.json").write_bytes(SALTS.as_bytes())
    seal_evidence(folder, planted_findings(version), signer)
    return folder


def own_features(concept: str) -> range:
    """Return the latents that fire for a concept."""
    start = CONCEPTS.index(concept) * FEATURES
    return range(start, start + FEATURES)


def order() -> NDArray[np.int64]:
    """Return where each latent of the SAE lies in the permuted one."""
    return np.random.default_rng(5).permutation(LATENTS)


def opened(folder: Path, version: Version) -> Opened:
    """Write the evidence of a version and return it as a bundle whose seal has been checked."""
    made = planted_findings(version)
    write_evidence(folder, version)
    findings_json = canonical_json(as_json(made))
    run = make_run(made)
    record = Record(made, replace(run, config={**run.config, **version.config}), findings_json, b"{}")
    parent = DiffParent(
        statement=digest_bytes(findings_json + repr(version).encode()),
        sequence=1,
        signed_at="2026-01-02T03:04:05+00:00",
        signer="Test seal",
        fingerprint=digest("certificate"),
        trusted=True,
        model=made.model.name,
        model_digest=made.model.digest,
        dtype=made.model.dtype,
        tool_version="0.1.0",
        measuring_code=None,
    )
    return Opened(folder, record, parent)


def planted_findings(version: Version) -> Findings:
    """Return findings in which discovery chose the features that were planted, by the numbers of this SAE."""
    made = make_findings()
    instrument = instrument_result(SAE, 15, Colour.GREEN)
    if version.permuted or version.other_sae:
        instrument = _renamed(instrument)
    instrument = replace(instrument, fidelity=fidelity("all", version.fvu, Colour.GREEN, sae=instrument.record.name))
    suite = SuiteRecord(
        "planted", "Planted", "1", digest(version.suite), CONCEPTS, (MIX,), 256, 1728, None, withheld=False
    )
    return replace(
        made,
        model=replace(made.model, digest=digest(version.model)),
        saes=(instrument,),
        suites=(suite,),
        concepts=tuple(_concept(concept, version, instrument.record.name) for concept in made.concepts),
        cofiring=(),
        mixes=(_mix(made.mixes[0], version, instrument.record.name),),
        causal=None,
        cards=(),
        ladder={rung.value: 0 for rung in Rung} | {"confirmed": FEATURES * len(CONCEPTS)},
    )


def _renamed(instrument: InstrumentResult) -> InstrumentResult:
    record = replace(instrument.record, name=OTHER_SAE, digest=digest("another SAE"))
    return replace(instrument, record=record, certificate=None, certificate_note="none")


def _concept(concept: ConceptResult, version: Version, sae: str) -> ConceptResult:
    numbers = order() if version.permuted else np.arange(LATENTS)
    chosen = tuple(
        finding(
            concept.id,
            Contrast.TOPIC,
            int(numbers[latent]),
            rung=Rung.CONFIRMED,
            lexical=Lexical.NOT_LEXICAL,
            d_z=1.0,
            sae=sae,
        )
        for latent in own_features(concept.id)
    )
    return replace(
        concept,
        exploratory=False,
        fidelity=(fidelity(concept.id, version.fvu, Colour.GREEN, sae=sae),),
        contrasts=(
            contrast_result(Contrast.TOPIC, Reading.DECOMPOSED, chosen, sae=sae),
            contrast_result(Contrast.DISTINCTION, Reading.NOT_DECOMPOSED, control=False, sae=sae),
        ),
        untested=(),
        outcome=None,
    )


def _mix(mix: MixResult, version: Version, sae: str) -> MixResult:
    own = fidelity(MIX, version.fvu, Colour.GREEN, sae=sae)
    return replace(mix, id=MIX, concepts=CONCEPTS[:2], placebo=CONCEPTS[2], fidelity=(own,), scans=(), pairs=())


@dataclass(frozen=True, slots=True)
class _Prompt:
    number: int
    concept: str
    scenario: int
    arm: str
    frame: str

    @property
    def split(self) -> str:
        return "discovery" if self.scenario < DISCOVERY else "confirmation"


def _prompts() -> list[_Prompt]:
    kinds = [(arm, "statement") for arm in ARMS] + [(arm, "outcome") for arm in ARMS[:2]]
    places = [(c, n, arm, frame) for c in CONCEPTS for n in range(DISCOVERY + CONFIRMATION) for arm, frame in kinds]
    places += [
        (MIX, n, cell, clauses) for n in range(DISCOVERY + CONFIRMATION) for cell in CELLS for clauses in ("ab", "ba")
    ]
    return [_Prompt(number, *place) for number, place in enumerate(places)]


def _activations(version: Version) -> FloatArray:
    """Return (prompts, tokens, latents); only prompts with a statement have any."""
    rng = np.random.default_rng(17 if version.other_sae else 11)
    prompts = _prompts()
    values = np.where(
        rng.random((len(prompts), TOKENS, LATENTS)) < 0.06,
        rng.exponential(0.4, (len(prompts), TOKENS, LATENTS)),
        0.0,
    )
    for prompt in prompts:
        strength = rng.normal(3.0, 0.9, FEATURES)
        if prompt.arm == "concept" and prompt.frame == "statement":
            values[prompt.number, prompt.scenario % TOKENS, list(own_features(prompt.concept))] = np.abs(strength)
        if prompt.concept == MIX:
            # The first concept's features fire in its own clause, and more beside the second where there is synergy.
            token = 1 if prompt.frame == "ab" else TOKENS - 2
            own = own_features(CONCEPTS[0])
            values[prompt.number, token, list(own)] = np.abs(strength) if prompt.arm[0] == "1" else 0.0
            if prompt.arm == "11":
                values[prompt.number, token, own[0]] += version.synergy * (1 + 0.2 * rng.standard_normal())
    changes = np.random.default_rng(23)
    for edit in version.edits:
        for prompt in prompts:
            added = edit.shift + edit.spread * changes.standard_normal()
            if prompt.arm == "concept" and prompt.frame == "statement" and edit.latent in own_features(prompt.concept):
                place = (prompt.number, prompt.scenario % TOKENS, edit.latent)
                values[place] = max(values[place] + added, 0.01)
    if version.noise:
        values *= 1 + version.noise * np.random.default_rng(version.seed).standard_normal(values.shape)
    values[[prompt.number for prompt in prompts if prompt.frame == "outcome"]] = 0.0
    return values[..., np.argsort(order())] if version.permuted else values


def _mix_row() -> dict[str, object]:
    names = {"first": CONCEPTS[0], "second": CONCEPTS[1], "placebo": CONCEPTS[2]}
    return {"mix": MIX, "suite": "planted", "domain": "d", "title": MIX, **names}


def _splice_row(prompt: _Prompt, version: Version, sae: str) -> dict[str, object]:
    added = version.drift + version.loss * (prompt.concept == CONCEPTS[0] and prompt.arm in {"concept", "control"})
    # The loss of the base differs by prompt; that of a version by a little more, as training has it.
    own = 5.0 + np.random.default_rng([prompt.number, 1]).normal()
    moved = 0.01 * np.random.default_rng([prompt.number, 2]).normal() * (version.drift != 0)
    lost = {"ce": TOKENS * (own + added + moved), "ce_spliced": TOKENS * 6.0, "ce_ablated": TOKENS * 9.0}
    return {"prompt": prompt.number, "sae": sae, "tokens": TOKENS, **lost, "kl": 0.1, "kl_random": 1.0}


def write_evidence(folder: Path, version: Version) -> None:
    """Write the shards and the database of a version."""
    (folder / ACTIVATIONS).mkdir(parents=True)
    prompts, values = _prompts(), _activations(version)
    sae = OTHER_SAE if version.permuted or version.other_sae else SAE
    number, token, latent = np.nonzero(values)
    block = RowBlock(
        sae,
        number.astype(np.int32),
        (token + _TEMPLATE).astype(np.int32),
        latent.astype(np.int32),
        values[number, token, latent].astype(np.float32),
    )
    rng = np.random.default_rng(3)
    rounding = np.random.default_rng(version.seed)
    moments = []
    for prompt in prompts:
        mean = rng.normal(size=WIDTH) + (prompt.arm == "concept") * 0.8
        mean = (mean * (1 + version.noise * rounding.standard_normal(WIDTH))).astype(np.float32)
        if prompt.frame != "outcome":
            moments.append(
                SequenceMoments(SITE, prompt.number, 10, TOKENS, 0, TOKENS, mean, mean, 60.0, {sae: 2.0}, {sae: 7.0})
            )
    write_shard(folder / ACTIVATIONS, "k1", make_shard([block], moments))
    with create_store(folder) as store:
        store.insert(
            "concept",
            [{"concept": c, "suite": "planted", "domain": "d", "title": c, "frames": 1} for c in CONCEPTS],
        )
        scenarios = {(p.concept, p.scenario): p.split for p in prompts}
        store.insert(
            "scenario",
            [
                {"scenario": f"{concept}/{n}", "concept": concept, "split": split, "number": n}
                for (concept, n), split in scenarios.items()
            ],
        )
        store.insert("mix", [_mix_row()])
        store.insert(
            "clause_start",
            [{"prompt": p.number, "position": _TEMPLATE + TOKENS // 2} for p in prompts if p.concept == MIX],
        )
        store.insert(
            "prompt",
            [
                {
                    "prompt": p.number,
                    "concept": p.concept,
                    "scenario": f"{p.concept}/{p.scenario}",
                    "split": p.split,
                    "arm": p.arm,
                    "frame": p.frame,
                    "text": f"{p.concept} {p.scenario} {p.arm} {p.frame}",
                }
                for p in prompts
            ],
        )
        store.insert(
            "token",
            [
                {
                    "prompt": p.number,
                    "position": position,
                    "piece": "<s>" if position < _TEMPLATE else f" {version.pieces}{position}",
                    "content": position >= _TEMPLATE,
                }
                for p in prompts
                for position in range(TOKENS + _TEMPLATE)
            ],
        )
        store.insert("splice", [_splice_row(p, version, sae) for p in prompts if p.frame == "statement"])
        answers = rng.normal(size=len(prompts))
        answers = answers * (1 + version.noise * rounding.standard_normal(len(prompts)))
        store.insert(
            "outcome",
            [
                {
                    "prompt": p.number,
                    "target_logit": answers[p.number]
                    + version.answer * (p.arm == "concept" and p.concept == CONCEPTS[0]),
                    "foil_logit": 0.0,
                }
                for p in prompts
                if p.frame == "outcome"
            ],
        )
        store.ingest_shards()
