"""All causal tests of an audit in a fixed order: single features, their shams, pairs mix by mix, the pairs' shams.

The budget is asked between units of work: a concept, a sham test, a mix. What it left out is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from audit.analysis.causal import with_causal_rungs
from audit.budget import Budget, parse_limit
from audit.causes.benches import Ledger, set_up
from audit.causes.levels import LevelReader
from audit.causes.pair_inquiry import inquire_pairs
from audit.causes.single_inquiry import inquire_singles
from audit.causes.work import Work
from audit.config import AuditConfig
from audit.evidence.store import Store
from audit.gathering import Subject
from audit.memory import give_back
from audit.progress import Progress
from audit.records import CausalPair, CausalResult, CausalSpending, ConceptResult, MixResult


@dataclass(frozen=True, slots=True)
class Causes:
    """What the causal tests of an audit found.

    Args:
        result: of single features; its `untested` lists what was left out, of pairs too. Without suppressions.
        concepts: the concepts with the rungs and reasons that their findings have now.
        pairs: mix -> what was measured.
        untested: mix -> what of it was not tested, and why.
        ledger: the raw rows.
    """

    result: CausalResult
    concepts: tuple[ConceptResult, ...]
    pairs: Mapping[str, tuple[CausalPair, ...]]
    untested: Mapping[str, tuple[str, ...]]
    ledger: Ledger


def find_causes(
    subject: Subject,
    concepts: Sequence[ConceptResult],
    mixes: Sequence[MixResult],
    config: AuditConfig,
    *,
    progress: Progress,
    clock: Callable[[], float],
) -> Causes:
    """Intervene on every confirmed feature and on pairs of strong features in mixes, as far as the budget goes.

    Args:
        subject: what was audited.
        concepts: what the association tests found.
        mixes: what the factorial found.
        config: budget, levels, numbers of shams and pairs, seed.
        progress: listener.
        clock: monotonic seconds; it decides something only where the budget is one of time.

    Raises:
        EvidenceError: an answer is NaN or infinite.
        PromptTooLong: a question about a text does not fit the model's context.
    """
    ledger = Ledger()
    benches, unfit = set_up(subject, config, progress.say)
    batch_tokens = config.capture.batch_tokens or subject.model.batch_tokens
    reader = LevelReader(subject, [bench.instrument for bench in benches], batch_tokens=batch_tokens, say=progress.say)
    limit = parse_limit(config.causal.budget, item="causal.budget")
    meters = [reader.spent, *(bench.spent for bench in benches)]
    budget = Budget(limit, meters=meters, clock=clock)
    work = Work(subject, benches, config, reader, budget, ledger, progress)
    singles = inquire_singles(work, concepts)
    give_back()
    pairs = inquire_pairs(work, concepts, mixes)
    result = CausalResult(
        effects=singles.effects,
        screens=(*singles.screens, *pairs.screens),
        edges=singles.edges,
        errors=singles.errors,
        suppressions=(),
        untested=(*unfit, *singles.untested, *(item for own in pairs.untested.values() for item in own)),
        spending=CausalSpending(limit.text, budget.spent),
    )
    return Causes(
        result=result,
        concepts=with_causal_rungs(concepts, singles.effects),
        pairs=pairs.pairs,
        untested={
            mix: tuple(f"{item.count} {item.what}: {item.reason}" for item in own)
            for mix, own in pairs.untested.items()
        },
        ledger=ledger,
    )


def record_causes(store: Store, ledger: Ledger) -> None:
    """Write the raw rows into the evidence."""
    store.insert("intervention", ledger.intervention)
    store.insert("downstream", ledger.downstream)
    store.insert("sham", ledger.sham)
    store.insert("screen", ledger.screen)
