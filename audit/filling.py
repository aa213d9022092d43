"""The tables of the evidence: what was asked, and what the model said."""

from __future__ import annotations

from dataclasses import asdict

from audit.capture.prompts import Prompt
from audit.digests import digest_bytes
from audit.evidence.store import Store
from audit.gathering import Gathered, Subject
from audit.records import WITHHELD_PIECE, withheld_text
from probes.schema import Concept, Mix, MixScenario, Scenario


def fill_store(store: Store, subject: Subject, gathered: Gathered) -> None:
    """Write suites, prompts, tokens, shards, outcomes and splices into an empty evidence store."""
    concepts = [(suite, concept) for suite in subject.suites for concept in suite.concepts]
    prompts = [*subject.prompts, *(question for question, _ in subject.questions), *subject.mix_prompts]
    store.insert(
        "suite",
        [
            {
                "suite": s.id,
                "title": s.title,
                "domain": s.domain,
                "version": s.version,
                "digest": s.digest,
                "subset": s.subset,
                "withheld": s.withheld,
            }
            for s in subject.suites
        ],
    )
    store.insert(
        "sae",
        [
            {"sae": s.name, "site": s.site, "target": s.target, "role": role, "latents": s.latents, "digest": s.digest}
            for role, saes in (("instrument", [i.sae for i in subject.instruments]), ("control", subject.controls))
            for s in (sae.record for sae in saes)
        ],
    )
    store.insert(
        "concept",
        [
            {"concept": c.id, "suite": s.id, "domain": c.domain, "title": c.title, "frames": len(s.frames)}
            for s, c in concepts
        ],
    )
    store.insert(
        "mix",
        [
            {
                "mix": m.id,
                "suite": s.id,
                "domain": s.domain,
                "title": m.title,
                "first": m.concepts[0],
                "second": m.concepts[1],
                "placebo": m.placebo.title,
            }
            for s in subject.suites
            for m in s.mixes
        ],
    )
    store.insert(
        "scenario",
        [
            {"scenario": scenario.id, "concept": part.id, "split": scenario.split.value, "number": number}
            for suite in subject.suites
            for part in suite.parts
            for number, scenario in enumerate(_scenarios(part))
        ],
    )
    store.insert("clause_start", [{"prompt": t.id, "position": t.second} for t in subject.mix_prompts])
    salts = {suite.id: suite.salt for suite in subject.suites}
    store.insert("prompt", [_prompt_row(t.prompt, salts[t.prompt.suite]) for t in prompts])
    store.insert(
        "token",
        [
            {
                "prompt": t.prompt.id,
                "position": position,
                "piece": WITHHELD_PIECE if content and salts[t.prompt.suite] is not None else piece,
                "content": content,
            }
            for t in prompts
            for position, (piece, content) in enumerate(zip(t.pieces, t.content, strict=True))
        ],
    )
    store.insert(
        "outcome", [{"prompt": o.prompt, "target_logit": o.target, "foil_logit": o.foil} for o in gathered.outcomes]
    )
    store.insert(
        "splice", [{"sae": name, **asdict(row)} for name, spliced in gathered.splices.items() for row in spliced]
    )
    store.ingest_shards()


def _scenarios(part: Concept | Mix) -> list[Scenario | MixScenario]:
    return [*part.scenarios]


def _prompt_row(prompt: Prompt, salt: str | None) -> dict[str, object]:
    return {
        "prompt": prompt.id,
        "concept": prompt.concept,
        "scenario": prompt.scenario,
        "split": prompt.split.value,
        "arm": prompt.arm.value,
        "frame": prompt.frame,
        "text": prompt.text if salt is None else _salted(prompt.text, salt),
    }


def _salted(text: str, salt: str) -> str:
    return withheld_text(digest_bytes((salt + text).encode()), len(text))
