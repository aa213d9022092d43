"""The findings of a bundle again, from the rows of its evidence: association, mixes, interventions, cards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

from audit.analysis.causal import with_causal_rungs
from audit.analysis.cofiring import Cosine
from audit.analysis.ladder import count_rungs
from audit.assessment import Assessment, Reader, assess, card_latents
from audit.cards import feature_cards
from audit.config import AuditConfig
from audit.digests import Json
from audit.errors import EvidenceError
from audit.evidence.causal_rows import read_causal_rows
from audit.evidence.store import Store
from audit.limits import not_tested
from audit.mixing import assess_co_firing, assess_mixes
from audit.printing import Record
from audit.progress import Progress, Silent
from audit.recomputation.causes import RecomputedCauses, recompute_causes
from audit.recomputation.differences import Difference, differences
from audit.recorded_suites import recorded_suites
from audit.recording import result_rows
from audit.records import (
    CoFiring,
    CoFiringPair,
    Findings,
    LabelSource,
    MixResult,
    SaeRecord,
    as_json,
    parse_record,
    untrained_name,
)
from audit.signing.bundle_files import MANIFEST
from probes.schema import Suite

# What no row of the evidence can say: it was taken from the model, from its SAEs or from files that came with these.
_OF_THE_WEIGHTS = frozenset({LabelSource.TOKENS, LabelSource.CONCEPT})
R = TypeVar("R")
TAKEN = (
    "what rests on the model's and the SAEs' own weights (decoder cosines, logit lens, certificates), imported labels,"
    " first-order estimates of shams that were not run, sums of the control test, which interventions were left out and"
    " what they cost, what is said of model, SAEs, suites and run besides their digests, and the rows of the evidence"
)


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What came out when the findings were computed again.

    Args:
        differences: every field that differs from findings.json beyond rounding.
        figures: how many numbers were compared.
    """

    differences: tuple[Difference, ...]
    figures: int


def recompute(
    folder: Path,
    record: Record,
    *,
    suites: Sequence[str],
    co_fired: Callable[[], tuple[CoFiring, ...]],
    progress: Progress,
) -> Recomputed:
    """Compute the findings of a bundle again and compare them with findings.json.

    Args:
        folder: the bundle.
        record: its findings and its run.
        suites: where the suites of the audit lie, of those that are not shipped; empty: all are.
        co_fired: gives what `recompute_co_firing` returns of every SAE; some of it may run elsewhere meanwhile.
        progress: listener.

    Raises:
        UsageError: a suite is not shipped and was not named.
        DigestMismatch: a suite is not the one of the audit.
        EvidenceError: a table, a query or a field that is needed is missing.
    """
    config = _config(record)
    loaded = recorded_suites(record.findings.suites, config.probes.suites, given=suites)
    with Store(folder) as store:
        tables = tuple(_table_differences(store, record.findings))
        again = _again(store, loaded, record.findings, config, progress)
    # It may open the file itself, which one process does once at a time.
    cofiring = co_fired()
    pairs = list(_compared(record.findings, again, cofiring))
    found = [d for where, one, other in pairs for d in differences(one, other, where=where)]
    return Recomputed((*found, *tables), sum(_figures(one) for _, one, _ in pairs))


def recompute_co_firing(folder: Path, record: Record, saes: Sequence[str]) -> tuple[CoFiring, ...]:
    """Count again which features fire together; nothing else of the findings is needed.

    Args:
        folder: the bundle.
        record: its findings and its run.
        saes: of which SAEs, by name.

    Raises:
        EvidenceError: a table, a query or a field that is needed is missing.
    """
    cosines = {part.sae: _recorded_cosines(part.top) for part in record.findings.cofiring}
    with Store(folder) as store:
        readers = [reader for reader in _readers(store, record.findings) if reader.sae.name in saes]
        return assess_co_firing(store, _config(record), readers, cosines=cosines, progress=Silent())


def _config(record: Record) -> AuditConfig:
    """Return the configuration of the audit; what the version that ran did not know has its default."""
    sections = {}
    for section in fields(AuditConfig):
        recorded = record.run.config.get(section.name, {})
        known = as_json(getattr(AuditConfig(), section.name))
        if isinstance(known, Mapping) and isinstance(recorded, Mapping):
            sections[section.name] = {**known, **recorded}
    found: AuditConfig = parse_record(AuditConfig, sections, where=f"{MANIFEST}, run.config")
    return found


@dataclass(frozen=True, slots=True)
class _Again:
    assessment: Assessment
    mixes: tuple[MixResult, ...]
    causes: RecomputedCauses
    cards: tuple[dict[str, Json], ...]


def _again(
    store: Store, suites: Sequence[Suite], findings: Findings, config: AuditConfig, progress: Progress
) -> _Again:
    # First what is quickly read: a missing table shows at once.
    rows, readers = read_causal_rows(store), _readers(store, findings)
    assessment = assess(store, suites, config, readers, progress=progress)
    mixes = assess_mixes(store, suites, config, readers, assessment=assessment, progress=progress)
    causes = recompute_causes(rows, assessment.concepts, findings, config)
    assessment = replace(assessment, concepts=with_causal_rungs(assessment.concepts, causes.effects))
    progress.say("describing features again")
    cards = [card for reader in readers for card in _cards(store, assessment, reader.sae, config)]
    return _Again(assessment, mixes, causes, tuple(cards))


def _readers(store: Store, findings: Findings) -> tuple[Reader, ...]:
    listed = store.query("saes")
    controls = listed[listed["role"] == "control"]
    readers = []
    for instrument in findings.saes:
        sae, untrained = instrument.record, untrained_name(instrument.record.name)
        beside = controls[
            (controls["site"] == sae.site) & (controls["target"] == sae.target) & (controls["latents"] == sae.latents)
        ]
        if untrained not in set(beside["sae"]):
            raise EvidenceError(
                item=f"table sae, control of {sae.name}",
                expected=untrained,
                found=", ".join(beside["sae"]) or "none",
                hint="Run `affidavit verify` on the bundle.",
            )
        frozen = [name for name in beside["sae"] if not name.endswith(untrained_name(""))]
        limit = instrument.exclusions.outlier_limit
        readers.append(Reader(sae, untrained, limit, frozen=frozen[0] if frozen else None))
    return tuple(readers)


def _recorded_cosines(pairs: Sequence[CoFiringPair]) -> Cosine:
    """Return the decoder cosines as they were recorded: they are of the weights, no row of the evidence has them."""
    found = {(pair.first, pair.second): pair.cosine for pair in pairs}
    return lambda first, second: found.get((first, second), 0.0)


def _cards(store: Store, assessment: Assessment, sae: SaeRecord, config: AuditConfig) -> Iterator[dict[str, Json]]:
    cards = feature_cards(
        store,
        assessment,
        card_latents(assessment, sae=sae.name, per_concept=config.report.cards_per_concept),
        sae=sae,
        promoted=None,
        stability=None,
        imported=(),
        contexts=config.report.contexts_per_card,
    )
    yield from map(_of_the_evidence, cards)


def _of_the_evidence(card: object) -> dict[str, Json]:
    """Return a card as JSON without what is of the weights or was imported."""
    value = as_json(card)
    if not isinstance(value, Mapping):
        raise TypeError("a card serialises to an object")
    own = dict(value) | {"id": f"{value['sae']}/{value['latent']}"}
    del own["seed_cosine"]
    labels = own["labels"]
    sources = {source.value for source in _OF_THE_WEIGHTS}
    if isinstance(labels, list):
        own["labels"] = [label for label in labels if isinstance(label, Mapping) and label["source"] in sources]
    return own


def _compared(findings: Findings, again: _Again, cofiring: tuple[CoFiring, ...]) -> Iterator[tuple[str, Json, Json]]:
    """Yield each part that the evidence gives again: its name, as recorded, as recomputed."""
    assessment, causes = again.assessment, again.causes
    yield "concepts", as_json(findings.concepts), as_json(assessment.concepts)
    for instrument in findings.saes:
        name = instrument.record.name
        yield f"saes/{name}/fidelity", as_json(instrument.fidelity), as_json(assessment.fidelity[name])
        yield f"saes/{name}/exclusions", as_json(instrument.exclusions), as_json(assessment.exclusions[name])
    yield "permutation_control", as_json(findings.permutation_control), as_json(assessment.permutation_control)
    yield "ladder", as_json(findings.ladder), as_json(count_rungs(assessment.findings))
    yield "cofiring", as_json(findings.cofiring), as_json(cofiring)
    mixes = tuple(
        replace(mix, pairs=_ordered(causes.pairs.get(mix.id, ()), recorded.pairs), untested=recorded.untested)
        for mix, recorded in zip(again.mixes, findings.mixes, strict=False)
    )
    yield "mixes", as_json(findings.mixes), as_json(mixes)
    if findings.causal is not None:
        recorded = findings.causal
        yield "not_tested", as_json(findings.not_tested), as_json(not_tested(findings.suites, recorded))
        for part in ("effects", "screens", "edges", "errors"):
            own = getattr(recorded, part)
            yield f"causal/{part}", as_json(own), as_json(_ordered(getattr(causes, part), own))
    yield "cards", [_of_the_evidence(card) for card in findings.cards], list(again.cards)


def _ordered(found: Sequence[R], recorded: Sequence[R]) -> tuple[R, ...]:
    """Return rows in the order of the recorded ones with the same identity; the others follow."""
    places = {_identity(row): n for n, row in enumerate(recorded)}
    return tuple(sorted(found, key=lambda row: places.get(_identity(row), len(places))))


def _identity(row: object) -> tuple[object, ...]:
    names = (
        ("id",)
        if hasattr(row, "id")
        else ("concept", "sae", "subject", "latent", "downstream_sae", "downstream_latent")
    )
    return tuple(getattr(row, name, None) for name in names)


def _table_differences(store: Store, findings: Findings) -> Iterator[Difference]:
    """Yield where a table of results in the evidence does not hold what findings.json does."""
    for table, rows in result_rows(findings).items():
        stored = store.rows(table)
        yield from differences(as_json(rows), as_json(stored), where=f"table {table}")


def _figures(value: Json) -> int:
    if isinstance(value, Mapping):
        return sum(map(_figures, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_figures, value))
    return int(isinstance(value, int | float) and not isinstance(value, bool))
