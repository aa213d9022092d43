"""Whether the two audits may be compared at all, and through which instruments."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import DifferenceResult, FidelityPair, InstrumentPair, LatentMatching, SetupCheck
from reports.difference_words import ELSEWHERE, RECORD, DifferenceNames, instrument_heading, shortened
from reports.language import N_, _
from reports.numbers import count, decimal, plain, plural, signed, visible
from reports.view import Cell, Chapter, Column, Passage, Row, Table, whole

_ALL = "all"
# Of a matched pair of SAEs the features without a partner are named up to this many.
NAMED_UNMATCHED = 24
PRINTED_SCOPES = 12
_ALONE_IN_BASE = N_(
    "Of the features that the base's audit chose, these have no partner and were not compared: {latents}."
)
_ALONE_IN_NEW = N_("Of the features that the new audit chose, these have no partner and were not compared: {latents}.")


def checks_chapter(result: DifferenceResult, names: DifferenceNames) -> Chapter:
    """Return the conditions of the comparison, then a passage for each instrument."""
    return Chapter(
        id="checks",
        heading=_("May the two be compared?"),
        lead=(
            _(
                "Both audits must have asked the same: otherwise a difference is one of the questions, not of the"
                " models. Where one of these conditions fails there is no report."
            ),
        ),
        terms=(),
        passages=(
            Passage(id="conditions", heading=_("Conditions"), tables=(_conditions(result.setup),)),
            *(
                _instrument(pair, result, names, number=number)
                for number, pair in enumerate(result.instruments, start=1)
            ),
        ),
    )


def _conditions(checks: Sequence[SetupCheck]) -> Table:
    return whole(
        Table(
            id="conditions-table",
            caption=_("What must be the same in both audits"),
            columns=(Column(_("Condition")), Column(_("Holds")), Column(_("What was found"))),
            rows=tuple(
                Row(
                    (
                        Cell(visible(check.name)),
                        Cell(_("yes"), mark="equivalent") if check.holds else Cell(_("no"), mark="changed"),
                        Cell(visible(check.detail)),
                    )
                )
                for check in checks
            ),
            empty=_("The record lists no condition."),
            record=RECORD,
        )
    )


def _instrument(pair: InstrumentPair, result: DifferenceResult, names: DifferenceNames, *, number: int) -> Passage:
    paragraphs = [_identity(pair)]
    if pair.new is not None and not pair.comparable:
        paragraphs.append(
            _(
                "Not comparable: {reason}. No feature of this instrument was compared; answers and the difference of"
                " means, which need no SAE, were.",
                reason=visible(pair.reason),
            )
        )
    elif pair.new is not None:
        left_out = [own.scope for own in pair.fidelity if not own.comparable and own.scope != _ALL]
        if left_out:
            paragraphs.append(
                plural(
                    len(left_out),
                    "Its features were not compared on {count} concept: {concepts}.",
                    "Its features were not compared on {count} concepts: {concepts}.",
                    concepts=", ".join(names.title(part) for part in left_out),
                )
            )
    if pair.matching is not None:
        paragraphs += _matching(pair.matching)
    place = f"instrument-{number}"
    return Passage(
        id=place,
        heading=instrument_heading(pair, names),
        paragraphs=tuple(paragraphs),
        tables=(_fidelity(pair.fidelity, result, names, table_id=f"{place}-fidelity"),) if pair.fidelity else (),
    )


def _identity(pair: InstrumentPair) -> str:
    base = shortened(pair.base)
    if pair.new is None:
        return _(
            "{base} has no counterpart: {reason}. None of its features was compared.",
            base=base,
            reason=visible(pair.reason),
        )
    if pair.same:
        return _("{base}, the same SAE by digest on both models: features are paired by number.", base=base)
    return _(
        "{base} on the base and {new} on the new model are different SAEs at one site: features are paired by how"
        " their activations agree.",
        base=base,
        new=shortened(pair.new),
    )


def _matching(found: LatentMatching) -> list[str]:
    said = [
        _(
            "On {tokens} tokens of discovery prompts {matched} features were matched, out of {base} that fire often"
            " enough in the base's SAE and {new} in the new one's; the median correlation of a pair is {median}, the"
            " largest by chance (with the tokens of one shifted) {null}.",
            tokens=count(found.tokens),
            matched=count(found.matched),
            base=count(found.live_base),
            new=count(found.live_new),
            median=decimal(found.median_r),
            null=decimal(found.null_r),
        ),
        _(
            "{base} features of the base's SAE and {new} of the new one's have no partner. Unmatched is not new:"
            " another training of the same SAE on the same model leaves many features without one (arXiv 2501.16615).",
            base=count(found.unmatched_base),
            new=count(found.unmatched_new),
        ),
    ]
    said += [
        _(message, latents=_listed(latents))
        for message, latents in (
            (_ALONE_IN_BASE, found.asked_unmatched_base),
            (_ALONE_IN_NEW, found.asked_unmatched_new),
        )
        if latents
    ]
    return said


def _listed(latents: Sequence[int]) -> str:
    named = ", ".join(str(latent) for latent in latents[:NAMED_UNMATCHED])
    more = len(latents) - NAMED_UNMATCHED
    return named if more <= 0 else _("{names} and {number} more", names=named, number=count(more))


def _fidelity(
    pairs: Sequence[FidelityPair], result: DifferenceResult, names: DifferenceNames, *, table_id: str
) -> Table:
    rows = [(pair, _fidelity_row(pair, names)) for pair in pairs]
    # Over all prompts, then what is too far apart, then the largest ratios: what paper has room for.
    order = sorted(rows, key=lambda one: (one[0].scope != _ALL, one[0].comparable, -one[0].fvu_ratio))
    printed = order[:PRINTED_SCOPES]
    left_out = len(rows) - len(printed)
    return Table(
        id=table_id,
        caption=_("How much the instrument misses on either model"),
        columns=(
            Column(_("Prompts of")),
            Column(_("FVU"), numeric=True, detail=_("base")),
            Column(_("FVU"), numeric=True, detail=_("new")),
            Column(_("Ratio"), numeric=True, detail=_("at most {limit}", limit=f"{result.margins.fvu_ratio:g}")),
            Column(_("Delta CE"), numeric=True, detail=_("base, nats")),
            Column(_("Delta CE"), numeric=True, detail=_("new, nats")),
            Column(_("Apart"), numeric=True, detail=_("at most {limit}", limit=f"{result.margins.delta_ce:g}")),
            Column(_("Comparable")),
        ),
        rows=tuple(row for _pair, row in rows),
        printed=tuple(row for _pair, row in printed),
        cut=plural(
            left_out,
            "{count} more, closer together, is in {elsewhere}.",
            "{count} more, closer together, are in {elsewhere}.",
            elsewhere=_(ELSEWHERE),
        )
        if left_out
        else "",
        sortable=True,
        layout="pairs",
        record=RECORD,
    )


def _fidelity_row(pair: FidelityPair, names: DifferenceNames) -> Row:
    apart = None
    if pair.base_delta_ce is not None and pair.new_delta_ce is not None:
        apart = abs(pair.new_delta_ce - pair.base_delta_ce)
    return Row(
        (
            Cell(_("all concepts and mixes") if pair.scope == _ALL else names.title(pair.scope)),
            Cell(decimal(pair.base_fvu, 3), sort=plain(pair.base_fvu)),
            Cell(decimal(pair.new_fvu, 3), sort=plain(pair.new_fvu)),
            Cell(decimal(pair.fvu_ratio) if pair.fvu_ratio < 1000 else _("over 1000"), sort=plain(pair.fvu_ratio)),
            Cell(signed(pair.base_delta_ce, 3), sort=plain(pair.base_delta_ce)),
            Cell(signed(pair.new_delta_ce, 3), sort=plain(pair.new_delta_ce)),
            Cell(decimal(apart, 3), sort=plain(apart)),
            Cell(_("yes"), mark="equivalent") if pair.comparable else Cell(_("no"), mark="incomparable"),
        ),
        note=_("Reason given: {reason}.", reason=visible(pair.reason)) if pair.reason else "",
    )
