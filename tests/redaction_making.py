"""A small sealed bundle with every kind of text, made without a model: real evidence, findings, reports and seal."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from weasyprint import HTML, Attachment

from audit.capture.shards import RowBlock, SequenceMoments, make_shard, write_shard
from audit.digests import Json, canonical_json, digest_bytes, digest_file
from audit.evidence.store import ACTIVATIONS, create_store
from audit.exports.formats import make_exports
from audit.exports.source import ExportSource
from audit.packing import PACKED_TYPE, pack
from audit.printed import REPORT_CODE
from audit.publishing import Published, predicate
from audit.recording import record_findings
from audit.records import (
    WITHHELD_PIECE,
    Continuation,
    FeatureCard,
    Findings,
    SealInfo,
    SuiteRecord,
    TokenActivation,
    as_json,
    withheld_text,
)
from audit.redaction import claim_of
from audit.signing.keys import Signer
from audit.signing.pdf import sign_pdf
from audit.signing.seal import seal_bundle
from audit.signing.texts import Salts
from reports.rendering import code_digest
from tests.conftest import MOMENT
from tests.reports.fixtures.audits import make_findings, make_run
from tests.reports.fixtures.mixes import MIX, NULL_MIX, UNMEASURED_MIX

SITE = "resid_post.15"
SALTS = Salts(bytes(range(32)))
# Suite -> its concepts and mixes. The texts of `defense` are withheld from the start.
PARTS = {
    "healthcare": ("dosing_error",),
    "finance": ("insider_trading",),
    "defense": ("civilian_harm",),
    "cross_domain": (MIX, NULL_MIX, UNMEASURED_MIX),
}
PROMPTS_EACH = 4
SHARED = "Sharedword opens each of two concepts."


def words_of(part: str, number: int) -> list[str]:
    """Return the words of a prompt; each is found in this prompt only."""
    letters = "".join(character for character in part if character.isalpha())
    return [f"{letters}xq{number}{ordinal}" for ordinal in ("alpha", "beta", "gamma")]


def prompts() -> list[tuple[int, str, str, list[str]]]:
    """Return number, part, text and content pieces of every prompt; one text is in two concepts."""
    found = []
    for part in (part for parts in PARTS.values() for part in parts):
        for number in range(PROMPTS_EACH):
            words = words_of(part, number)
            text = " ".join(words)
            if number == 0 and part in {"dosing_error", "insider_trading"}:
                text, words = SHARED, SHARED.split()
            pieces = [words[0], *(f" {word}" for word in words[1:])]
            if part == "civilian_harm":
                text, pieces = withheld_text(digest_bytes(text.encode()), len(text)), [WITHHELD_PIECE] * len(pieces)
            found.append((len(found), part, text, pieces))
    return found


def first_prompt(part: str) -> int:
    """Return the number of a part's second prompt: the first may be shared."""
    return next(number for number, own, _, _ in prompts() if own == part) + 1


def findings() -> Findings:
    """Return the reports' synthetic findings with the texts of these prompts."""
    made = make_findings()
    assert made.causal is not None
    cross = SuiteRecord(
        "cross_domain", "Across", "1", digest_bytes(b"cross"), (), PARTS["cross_domain"], 3, 12, None, withheld=False
    )
    suppressions = tuple(
        replace(
            held,
            continuations=tuple(
                Continuation(
                    f"{held.concept}xqprompt{n}", text.dose, f"{held.concept}xqsaid{n}", f"{held.concept}xqnow{n}"
                )
                for n, text in enumerate(held.continuations)
            ),
        )
        for held in made.causal.suppressions
    )
    return replace(
        made,
        suites=(*(replace(suite, withheld=suite.id == "defense") for suite in made.suites), cross),
        cards=tuple(_card(card, n) for n, card in enumerate(made.cards)),
        causal=replace(made.causal, suppressions=suppressions),
    )


def _card(card: FeatureCard, number: int) -> FeatureCard:
    """Return a card whose contexts are prompts of the bundle and whose label by tokens quotes one."""
    by_number = {n: (part, pieces) for n, part, _, pieces in prompts()}
    parts = ("dosing_error", "insider_trading", "civilian_harm", "dosing_error", "insider_trading")
    contexts = []
    for n, context in enumerate(card.contexts):
        prompt = first_prompt(parts[(number + n) % 5])
        part, pieces = by_number[prompt]
        tokens = tuple(TokenActivation(piece, 0.5 * place) for place, piece in enumerate(pieces))
        contexts.append(replace(context, prompt=str(prompt), concept=part, tokens=tokens))
    labels = tuple(
        replace(label, text=f"“labelxq{number}dosing”") if label.source.value == "tokens" else label
        for label in card.labels
    )
    return replace(card, contexts=tuple(contexts), labels=labels)


def write_evidence(folder: Path, made: Findings) -> None:
    """Write shards and database."""
    (folder / ACTIVATIONS).mkdir(parents=True)
    numbers = [number for number, _, _, _ in prompts()]
    sae = made.saes[0].record.name
    ids = np.array(numbers, dtype=np.int32)
    block = RowBlock(
        sae, ids, np.full_like(ids, 2), np.full_like(ids, 100), np.linspace(1, 9, len(ids), dtype=np.float32)
    )
    mean = np.array([0.5, -1.0], dtype=np.float32)
    moments = [SequenceMoments(SITE, n, 4, 3, 0, 3, mean * n, mean, 10.0, {sae: 2.0}, {sae: 2.7}) for n in numbers]
    write_shard(folder / ACTIVATIONS, "k1", make_shard([block], moments))
    with create_store(folder) as store:
        store.insert(
            "prompt",
            [
                {
                    "prompt": number,
                    "concept": part,
                    "scenario": f"{part}-{number}",
                    "split": "confirmation",
                    "arm": "concept",
                    "frame": "statement",
                    "text": text,
                }
                for number, part, text, _ in prompts()
            ],
        )
        store.insert(
            "token",
            [
                {"prompt": number, "position": position, "piece": piece, "content": position > 0}
                for number, _, _, pieces in prompts()
                for position, piece in enumerate(["<|im_start|>", *pieces])
            ],
        )
        store.ingest_shards()
        record_findings(store, made)


def write_bundle(
    folder: Path,
    signer: Signer,
    *,
    with_texts: bool = True,
    edit: Callable[[dict[str, bytes]], dict[str, bytes]] = dict,
) -> None:
    """Write and seal a whole bundle.

    Args:
        folder: where to.
        signer: whose seal it is.
        with_texts: False: as a version before redaction sealed it.
        edit: what happens to the exports before the seal.
    """
    made = findings()
    write_evidence(folder, made)
    seal_evidence(folder, made, signer, with_texts=with_texts, edit=edit)


def seal_evidence(
    folder: Path,
    made: Findings,
    signer: Signer,
    *,
    with_texts: bool = True,
    edit: Callable[[dict[str, bytes]], dict[str, bytes]] = dict,
) -> None:
    """Write everything that belongs around evidence and findings, and seal it as a bundle."""
    findings_json = canonical_json(as_json(made))
    (folder / "findings.json").write_bytes(findings_json)
    if with_texts:
        (folder / "salts.json").write_bytes(SALTS.as_bytes())
    certificate = signer.certificate
    seal = SealInfo(
        certificate.common_name, certificate.organisation or "", certificate.fingerprint, certificate.algorithm.value
    )
    digest = digest_bytes(findings_json)
    run = replace(
        make_run(made),
        created_at=MOMENT.isoformat(timespec="seconds"),
        findings_digest=digest,
        bundle_name="bundle",
        seal=seal,
        environment={REPORT_CODE: code_digest()},
    )
    exports = edit(make_exports(ExportSource(made, run, digest_file(folder / "evidence.duckdb"))))
    for name, content in exports.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    manifest: dict[str, Json] = {
        "schema": "affidavit/manifest/1",
        "run": as_json(run),
        "model": as_json(made.model),
        "saes": [as_json(sae.record) for sae in made.saes],
        "suites": as_json(made.suites),
        "format": made.format,
        "ladder": as_json(made.ladder),
        "files": {name: digest_file(folder / name) for name in names},
    }
    manifest_json = canonical_json(manifest)
    (folder / "manifest.json").write_bytes(manifest_json)
    packed = f'<script type="{PACKED_TYPE}" id="affidavit-findings">{pack(findings_json)}</script>'
    (folder / "report.html").write_text(f"<!doctype html><p>Audit</p>{packed}")
    attached = [
        Attachment(string=data, name=name, relationship="Data")
        for name, data in (("findings.json", findings_json), ("manifest.json", manifest_json))
    ]
    page = "<html lang=en><head><title>Audit</title></head><body><h1>Audit</h1></body></html>"
    with warnings.catch_warnings():
        # WeasyPrint leaves the colour profile that it reads for PDF/A to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        pdf = HTML(string=page).write_pdf(attachments=attached, pdf_variant="pdf/a-3a", pdf_tags=True)
    (folder / "report.pdf").write_bytes(sign_pdf(pdf, signer, signed_at=MOMENT, reason="r"))
    said = predicate(made, Published(digest, claim_of(folder, findings_json, SALTS)))
    said = said if with_texts else {key: value for key, value in said.items() if key != "texts"}
    seal_bundle(folder, signer, predicate=said, signed_at=MOMENT, tool_version="0.1.0")
