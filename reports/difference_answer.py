"""Page one of a difference: which two models, what changed, what is shown to be equivalent, what cannot be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from audit.records import DifferenceResult, DiffParent, DiffRun, InstrumentPair, PartDifference, Respect, Verdict
from reports.difference_view import Answer
from reports.difference_words import RECORD, DifferenceNames, in_sd, least_seen, shortened, verdict_cell
from reports.language import N_, _
from reports.numbers import (
    NOT_MEASURED,
    count,
    date_text,
    decimal,
    listed,
    plain,
    plural,
    probability,
    short_digest,
    visible,
)
from reports.view import Cell, Column, Row, Table, whole

NAMED_CHANGES = 3
_RESPECTS = {Respect.FEATURES: N_("features"), Respect.ANSWERS: N_("answers"), Respect.LOSS: N_("loss")}


def answer_view(result: DifferenceResult, run: DiffRun, names: DifferenceNames) -> Answer:
    """Return the page."""
    return Answer(
        models=models_table(result.base, result.new),
        sentences=tuple(_sentences(result, names)),
        seal=_seal(run),
        concepts=_parts(
            result.concepts,
            result,
            names,
            table_id="answer-concepts",
            caption=_("Concepts by rank, outlying ones first"),
            empty=_("No concept was compared. An empty comparison is no pass."),
        ),
        mixes=_parts(
            result.mixes,
            result,
            names,
            table_id="answer-mixes",
            caption=_("Mixes of two concepts: how features react to both together"),
            empty=_("No mix was compared: the audits have none."),
        ),
        unsaid=tuple(_unsaid(result)),
    )


def gist(parts: Sequence[PartDifference], *, mixes: bool = False) -> str:
    """Return the answer in one sentence."""
    found = Counter(part.verdict for part in parts)
    numbers = {
        "changed": count(found[Verdict.CHANGED]),
        "equivalent": count(found[Verdict.EQUIVALENT]),
        "inconclusive": count(found[Verdict.INCONCLUSIVE]),
        "incomparable": count(found[Verdict.NOT_COMPARABLE]),
    }
    if mixes:
        return plural(
            len(parts),
            "Of {count} mix of two concepts, {changed} changed, {equivalent} shown to be equivalent, {inconclusive}"
            " cannot be told, {incomparable} not comparable.",
            "Of {count} mixes of two concepts, {changed} changed, {equivalent} are shown to be equivalent,"
            " {inconclusive} cannot be told, {incomparable} are not comparable.",
            **numbers,
        )
    return plural(
        len(parts),
        "Of {count} concept, {changed} changed, {equivalent} shown to be equivalent, {inconclusive} cannot be told,"
        " {incomparable} not comparable.",
        "Of {count} concepts, {changed} changed, {equivalent} are shown to be equivalent, {inconclusive} cannot be"
        " told, {incomparable} are not comparable.",
        **numbers,
    )


def _sentences(result: DifferenceResult, names: DifferenceNames) -> list[str]:
    found = [gist(result.concepts)]
    changed = [part for part in result.concepts if part.verdict is Verdict.CHANGED]
    if changed:
        first = listed([names.title(part.id) for part in changed[:NAMED_CHANGES]])
        if len(changed) <= NAMED_CHANGES:
            found.append(_("Changed, by rank: {concepts}.", concepts=first))
        else:
            found.append(_("The first of those that changed, by rank: {concepts}.", concepts=first))
        found.append(_standing(changed, names))
    if result.mixes:
        found.append(gist(result.mixes, mixes=True))
    return found


def _standing(changed: Sequence[PartDifference], names: DifferenceNames) -> str:
    """Return whether any change is about one concept."""
    outlying = [names.title(part.id) for part in changed if part.outlying]
    if outlying:
        return _("Changed by far more than the others: {concepts}.", concepts=listed(outlying[:NAMED_CHANGES]))
    return _(
        "None changed by far more than the others: this may be what training on anything does, and nothing here shows"
        " that one concept was meant."
    )


def _seal(run: DiffRun) -> str:
    return _(
        "Compared and sealed {when} by {who} (organisation: {organisation}; {algorithm}, certificate {fingerprint})."
        " A claim until the seal is verified, as the last chapter says; no person's signature and no approval.",
        when=date_text(run.created_at),
        who=shortened(run.seal.common_name),
        organisation=shortened(run.seal.organisation) or _("not named"),
        algorithm=visible(run.seal.algorithm),
        fingerprint=short_digest(visible(run.seal.fingerprint)),
    )


def models_table(base: DiffParent, new: DiffParent) -> Table:
    """Return the two audits side by side: model, arithmetic, and whose seal each has."""
    pairs = (
        (_("Model"), [Cell(shortened(own.model)) for own in (base, new)]),
        (_("Model digest"), [Cell(short_digest(visible(own.model_digest)), code=True) for own in (base, new)]),
        (_("Arithmetic"), [Cell(shortened(own.dtype)) for own in (base, new)]),
        (
            _("Audit sealed"),
            [
                Cell(_("{when} by {who}", when=date_text(own.signed_at), who=shortened(own.signer)), detail=_trust(own))
                for own in (base, new)
            ],
        ),
        (_("Signed statement"), [Cell(short_digest(visible(own.statement)), code=True) for own in (base, new)]),
    )
    return whole(
        Table(
            id="models",
            caption=_("The two audits that were compared"),
            columns=(Column(_("Property")), Column(_("Base")), Column(_("New"))),
            rows=tuple(Row((Cell(name), *cells)) for name, cells in pairs),
            layout="models",
            record=RECORD,
        )
    )


def _trust(parent: DiffParent) -> str:
    number = _("number {number} of its series", number=count(parent.sequence))
    if parent.trusted:
        return _("signer trusted; {number}", number=number)
    return _("intact, signer not trusted; {number}", number=number)


def _parts(
    parts: Sequence[PartDifference],
    result: DifferenceResult,
    names: DifferenceNames,
    *,
    table_id: str,
    caption: str,
    empty: str,
) -> Table:
    return whole(
        Table(
            id=table_id,
            caption=caption,
            columns=(
                Column(_("Rank"), numeric=True),
                Column(_("Concept") if table_id == "answer-concepts" else _("Mix")),
                Column(_("Verdict")),
                Column(_("Why")),
                Column(_("Shift"), numeric=True, detail=_("beyond sampling")),
                Column(_("Beside the others"), numeric=True, detail=_("how far")),
                Column(_("Could be seen"), numeric=True, detail=_("smallest")),
            ),
            rows=tuple(_part(part, names, result.instruments) for part in sorted(parts, key=lambda part: part.rank)),
            empty=empty,
            layout="answer",
            sortable=True,
            record=RECORD,
        )
    )


def _beside(part: PartDifference) -> Cell:
    """Return how far a part moved beside the others, and whether that is an alarm."""
    if part.ratio_p is None:
        return Cell(_(NOT_MEASURED))
    ratio = _("no other moved") if part.ratio is None else _("{number} times", number=decimal(part.ratio, 1))
    said = _("outlying: {ratio}", ratio=ratio) if part.outlying else ratio
    detail = _("p = {p}", p=probability(part.ratio_p))
    if part.respect is not None:
        detail = f"{_(_RESPECTS[part.respect])}, {detail}"
    return Cell(said, detail=detail, sort=plain(part.ratio))


def _why(part: PartDifference, instruments: Sequence[InstrumentPair]) -> str:
    """Return in few words what decided; the record's own reason stands above the part's rows."""
    if not part.rows:
        return _("no row could be compared")
    numbers = {
        "changed": count(part.changed),
        "inconclusive": count(part.inconclusive),
        "rows": count(part.rows),
    }
    if part.verdict is Verdict.CHANGED:
        said = _("{changed} of {rows} rows changed", **numbers)
    elif part.verdict is Verdict.EQUIVALENT:
        said = _("every row of scores and answers")
    else:
        said = _("{inconclusive} of {rows} rows cannot be told", **numbers)
    unread = sum(
        not pair.comparable or any(own.scope == part.id and not own.comparable for own in pair.fidelity)
        for pair in instruments
    )
    if not unread:
        return said
    return said + plural(
        unread, "; features of {count} SAE not comparable", "; features of {count} SAEs not comparable"
    )


def _part(part: PartDifference, names: DifferenceNames, instruments: Sequence[InstrumentPair]) -> Row:
    return Row(
        (
            Cell(count(part.rank), sort=str(part.rank)),
            Cell(names.title(part.id), detail=shortened(part.domain), href=names.places[part.id]),
            verdict_cell(part.verdict),
            Cell(_why(part, instruments)),
            Cell(in_sd(part.shift), sort=plain(part.shift)),
            _beside(part),
            Cell(least_seen(part.detectable), sort=plain(part.detectable)),
        )
    )


def _unsaid(result: DifferenceResult) -> list[str]:
    found = [
        _(
            "“Cannot be told” is no pass: neither a change nor its absence was shown. The last column is the smallest"
            " change that could have been seen."
        ),
        _("“Changed” does not say better or worse, and not why. “Equivalent” holds inside the printed margin only."),
        _(
            "Nothing is said of concepts that were not audited, nor of features that neither audit chose. This"
            " comparison passes no judgement on a model and grants no approval."
        ),
    ]
    if result.noise:
        found.append(
            plural(
                len(result.noise),
                "A change had to exceed what {count} further audit of the base's own model differed by.",
                "A change had to exceed what {count} further audits of the base's own model differed by.",
            )
        )
    else:
        found.append(
            _(
                "By how much two audits of one and the same model differ, in another batch order or arithmetic, was"
                " not measured here: a small change may be no more than that."
            )
        )
    return found
