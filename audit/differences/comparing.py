"""Compare two sealed bundles: from their evidence to the record that `diff.json` holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import isfinite
from statistics import mean, median

from audit import __version__
from audit.analysis.difference import Compared, PairedValues, compare_rows, shift_of
from audit.analysis.outlying import Moved, outlying
from audit.differences.asking import AskedRow, asked_latents, asked_rows
from audit.differences.contexts import paired_contexts
from audit.differences.instruments import Instruments, pair_instruments, read_instruments
from audit.differences.parents import Opened
from audit.differences.setup import require_comparable, setup_checks
from audit.differences.values import CREDITS, ScenarioValues, Wanted, pair_values, read_values
from audit.digests import measuring_code
from audit.errors import UsageError
from audit.evidence.store import Store
from audit.evidence.versions import read_losses, read_prompt_shapes
from audit.progress import Progress
from audit.records import (
    DIFFERENCE_SCHEMA,
    ConceptResult,
    DifferenceResult,
    DifferenceRow,
    DiffMargins,
    Findings,
    MixResult,
    PartDifference,
    Respect,
    RowKind,
    Verdict,
)

_ALWAYS_UNMEASURED = (
    "The divergence of next-token distributions: of each question the evidence holds two logits, no distribution.",
    "Emergent features of mixes: each audit counts above a threshold that it fixed for itself.",
    "Causal effects: they are of interventions on one model, and are not paired by scenario.",
)

_CONCEPTS = {
    Respect.FEATURES: frozenset({RowKind.FEATURE}),
    Respect.ANSWERS: frozenset({RowKind.OUTCOME, RowKind.ANSWER}),
}
_MIXES = {Respect.FEATURES: frozenset({RowKind.INTERACTION})}


def compare_bundles(
    base: Opened, new: Opened, *, noise: Sequence[Opened] = (), margins: DiffMargins, progress: Progress
) -> DifferenceResult:
    """Return what changed between two audits, what is equivalent, and what cannot be told.

    Args:
        base: the earlier bundle.
        new: the later one.
        noise: further bundles of the base's model, in another batch order or arithmetic: a change must exceed what
            they differ by.
        margins: the limits, fixed before.
        progress: listener.

    Raises:
        UsageError: the audits are not comparable, or a noise bundle is not of the base's model.
        EvidenceError: a table or file of the evidence is damaged.
    """
    with ExitStack() as stack:
        # Once a folder: DuckDB gives two connections to one file the same settings, which are locked by then.
        folders = [opened.folder.resolve() for opened in (base, new, *noise)]
        once = {folder: stack.enter_context(Store(folder)) for folder in dict.fromkeys(folders)}
        stores = [once[folder] for folder in folders]
        progress.say("checking that both audits asked the same")
        prompts = read_prompt_shapes(stores[0])
        setup = setup_checks(base, new, prompts=prompts, new_prompts=read_prompt_shapes(stores[1]))
        require_comparable(setup)
        for opened, store in zip(noise, stores[2:], strict=True):
            _require_noise(base, opened)
            require_comparable(setup_checks(base, opened, prompts=prompts, new_prompts=read_prompt_shapes(store)))
        one, two = base.record.findings, new.record.findings
        pairs = {sae.name: other.name for sae, other in pair_instruments(one, two) if other is not None}
        progress.say("pairing SAEs and their latents")
        instruments = read_instruments(
            (stores[0], stores[1]), (one, two), prompts=prompts, asked=asked_latents(one, two, pairs), margins=margins
        )
        asked = asked_rows(one, two, instruments)
        progress.say(f"reading {len(asked)} rows")
        first = read_values(stores[0], one, [row.base for row in asked])
        second = read_values(stores[1], two, [row.new for row in asked])
        rows = [(row, paired) for row in asked if (paired := _paired(row, first, second)) is not None]
        floors = [
            _floors(store, one, opened.record.findings, [row for row, _ in rows], first)
            for opened, store in zip(noise, stores[2:], strict=True)
        ]
        largest = [_largest([floor[n] for floor in floors]) for n in range(len(rows))]
        values = [paired for _, paired in rows]
        compared = compare_rows(values, margins, floors=largest)
        records = tuple(
            _record(row, paired, result, floor)
            for (row, paired), result, floor in zip(rows, compared, largest, strict=True)
        )
        losses = _loss_changes((stores[0], stores[1]), (one, two))
        contexts = paired_contexts((stores[0], stores[1]), records, [pair.record for pair in instruments])
    counts = Counter(row.verdict.value for row in records)
    return DifferenceResult(
        schema=DIFFERENCE_SCHEMA,
        tool_version=__version__,
        code=measuring_code(),
        margins=margins,
        base=base.parent,
        new=new.parent,
        noise=tuple(opened.parent for opened in noise),
        setup=setup,
        instruments=tuple(pair.record for pair in instruments),
        concepts=_parts(one.concepts, records, values, instruments, margins, respects=_CONCEPTS, losses=losses),
        mixes=_parts(one.mixes, records, values, instruments, margins, respects=_MIXES, losses={}),
        tests=len(records),
        rows=records,
        counts={verdict.value: counts[verdict.value] for verdict in Verdict if verdict is not Verdict.NOT_COMPARABLE},
        contexts=contexts,
        not_measured=(*_unmeasured(len(asked) - len(records), noise), *_ALWAYS_UNMEASURED),
    )


def _require_noise(base: Opened, opened: Opened) -> None:
    if opened.parent.model_digest != base.parent.model_digest:
        raise UsageError(
            item=f"--noise {opened.folder}",
            expected=f"a bundle of the base's model, {base.parent.model_digest}",
            found=f"one of {opened.parent.model_digest}",
            hint="Noise is what the base's own model differs by from one run to the next.",
        )


def _paired(
    row: AskedRow, base: Mapping[Wanted, ScenarioValues], new: Mapping[Wanted, ScenarioValues]
) -> PairedValues | None:
    if row.base not in base or row.new not in new:
        return None
    return pair_values(base[row.base], new[row.new], kind=row.base.kind, standardised=row.standardised)


def _floors(
    store: Store, base: Findings, noise: Findings, rows: Sequence[AskedRow], values: Mapping[Wanted, ScenarioValues]
) -> list[float | None]:
    """Return by how much a noise bundle differs from the base in each row; None where it has no such row."""
    same = {
        one.name: other.name
        for one, other in pair_instruments(base, noise)
        if other is not None and one.digest == other.digest
    }
    own = [_elsewhere(row.base, same) for row in rows]
    found = read_values(store, noise, [one for one in own if one is not None])
    floors: list[float | None] = []
    for row, one in zip(rows, own, strict=True):
        paired = None
        if one is not None and one in found:
            paired = pair_values(values[row.base], found[one], kind=row.base.kind, standardised=row.standardised)
        floors.append(None if paired is None else abs(float((paired.new - paired.base).mean())))
    return floors


def _elsewhere(wanted: Wanted, same: Mapping[str, str]) -> Wanted | None:
    """Return what a row reads from a bundle in which its SAE has another name; None where the SAE is not there."""
    if wanted.sae is None:
        return wanted
    return replace(wanted, sae=same[wanted.sae]) if wanted.sae in same else None


def _largest(floors: Sequence[float | None]) -> float | None:
    return max((floor for floor in floors if floor is not None), default=None)


def _record(row: AskedRow, paired: PairedValues, result: Compared, floor: float | None) -> DifferenceRow:
    return DifferenceRow(
        id=row.id,
        kind=row.base.kind,
        part=row.base.part,
        contrast=row.base.contrast,
        sae=row.base.sae,
        base_latent=row.base.latent,
        new_latent=row.new.latent,
        match_r=row.match_r,
        measure=row.base.measure,
        unit=row.unit,
        n_scenarios=len(paired.base),
        n_moved=result.n_moved,
        base_mean=float(paired.base.mean()),
        new_mean=float(paired.new.mean()),
        difference=result.difference,
        low_90=result.low_90,
        high_90=result.high_90,
        scale=paired.scale,
        effect=None if paired.scale is None else result.difference.value / paired.scale,
        margin=result.margin,
        p_value=result.p_value,
        q_value=result.q_value,
        noise_floor=floor,
        detectable=result.detectable,
        verdict=result.verdict,
        reason=result.reason,
    )


def _parts(
    parts: Sequence[ConceptResult | MixResult],
    rows: Sequence[DifferenceRow],
    values: Sequence[PairedValues],
    instruments: Sequence[Instruments],
    margins: DiffMargins,
    *,
    respects: Mapping[Respect, frozenset[RowKind]],
    losses: Mapping[str, Sequence[float]],
) -> tuple[PartDifference, ...]:
    """Return the verdicts on some concepts or mixes, by rank.

    Rows of features and of behaviour are each summed up alone, and the larger speaks: few answers would not be heard
    among many features, and where no feature can be compared the answers still are. `respects` says which kinds of rows
    are summed up together; `losses` holds, of each part, the changes of the model's loss on its texts by scenario.
    What stands out comes first; then the fall of the loss speaks, which hangs neither on an instrument nor on a
    question's wording: what a model was taught it predicts better.
    """
    found: list[PartDifference] = []
    pairs = list(zip(rows, values, strict=True))
    shifts = {
        respect: [
            shift_of([value for row, value in pairs if row.part == part.id and row.kind in kinds]) for part in parts
        ]
        for respect, kinds in respects.items()
    }
    loss = [mean(losses[part.id]) if losses.get(part.id) else None for part in parts]
    squares = {
        respect: [None if shift is None else shift.mean_square for shift in own] for respect, own in shifts.items()
    }
    beside = outlying(
        [*(Moved(respect, own) for respect, own in squares.items()), Moved(Respect.LOSS, loss, common=True)]
    )
    for n, part in enumerate(parts):
        own = [row for row in rows if row.part == part.id]
        counts = Counter(row.verdict for row in own)
        unread = [pair.record.base for pair in instruments if not pair.comparable(part.id)]
        verdict, reason = _verdict(own, unread)
        entry = PartDifference(
            id=part.id,
            title=part.title,
            domain=part.domain,
            verdict=verdict,
            reason=reason,
            rank=0,
            shift=max((shift.excess for kind in shifts.values() if (shift := kind[n]) is not None), default=None),
            detectable=_detectable([row for row in own if row.kind in respects[Respect.FEATURES]]),
            rows=len(own),
            changed=counts[Verdict.CHANGED],
            equivalent=counts[Verdict.EQUIVALENT],
            inconclusive=counts[Verdict.INCONCLUSIVE],
            loss_change=loss[n],
            loss_scenarios=len(losses.get(part.id, ())),
        )
        if beside[n]:
            most = beside[n][0]
            ordering = next((one for one in beside[n] if one.respect is Respect.LOSS), most)
            entry = replace(
                entry,
                ratio=most.ratio if isfinite(most.ratio) else None,
                ratio_p=most.adjusted,
                outlying=verdict is Verdict.CHANGED and most.adjusted <= margins.outlying_alpha,
                respect=most.respect,
                order_p=ordering.fall,
            )
        found.append(entry)
    return tuple(replace(one, rank=n + 1) for n, one in enumerate(sorted(found, key=_order)))


def _order(part: PartDifference) -> tuple[object, ...]:
    order_p = 1.0 if part.order_p is None else part.order_p
    return not part.outlying, order_p, -(part.shift or 0.0), part.id


def _loss_changes(stores: tuple[Store, Store], findings: tuple[Findings, Findings]) -> dict[str, list[float]]:
    """Return by how much the loss on texts about each concept changed beyond that on neutral texts, by scenario."""
    base, new = (read_losses(store, sae=own.saes[0].record.name) for store, own in zip(stores, findings, strict=True))
    both = base.join(new, how="inner", lsuffix="_base", rsuffix="_new")
    changes = both["loss_new"] - both["loss_base"]
    return {str(concept): own.tolist() for concept, own in changes.groupby(level="concept")}


def _detectable(rows: Sequence[DifferenceRow]) -> float | None:
    found = [row.detectable / row.scale for row in rows if row.detectable is not None and row.scale is not None]
    return median(found) if found else None


def _verdict(rows: Sequence[DifferenceRow], unread: Sequence[str]) -> tuple[Verdict, str]:
    """Return the answer of a part. An AUROC of two dozen scenarios can show a change, and rarely that there is none."""
    missing = f"; features of {', '.join(unread)} are not comparable" if unread else ""
    if not rows:
        return Verdict.NOT_COMPARABLE, f"no row could be compared{missing}"
    if changed := sum(row.verdict is Verdict.CHANGED for row in rows):
        return Verdict.CHANGED, f"{changed} of {len(rows)} rows changed{missing}"
    measured = [row for row in rows if row.kind not in CREDITS]
    equivalent = sum(row.verdict is Verdict.EQUIVALENT for row in measured)
    if unread or not measured or equivalent < len(measured):
        return (
            Verdict.INCONCLUSIVE,
            f"{equivalent} of {len(measured)} rows of scores and answers are equivalent{missing}",
        )
    return Verdict.EQUIVALENT, f"all {len(measured)} rows of scores and answers are equivalent"


def _unmeasured(left_out: int, noise: Sequence[Opened]) -> list[str]:
    found = [] if noise else ["The noise floor: no bundle of the base's model in another batch order or arithmetic."]
    if left_out:
        found.append(f"{left_out} rows: too few scenarios on a model, no question asked, or silence.")
    return found
