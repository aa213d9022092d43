"""The certificate of an instrument: what an SAE does on text that it was not trained on, on one page."""

from __future__ import annotations

from collections.abc import Sequence

from audit.records import (
    Certificate,
    Estimate,
    Fidelity,
    Findings,
    ModelRecord,
    SaeRecord,
    SeedStability,
    TrainingPoint,
)
from reports.figures import CurvePoint, curve_chart
from reports.instruments import Instrument
from reports.numbers import count, decimal, interval, plural, share, signed, visible
from reports.view import Cell, CertificateView, Chart, Column, Fact, Row, Table, whole

PRINTED_SCOPES = 16
PRINTED_POINTS = 4
NOT_MEASURED_SHORT = "n. m."

LEAD = (
    "A sheet of measurements: what this instrument does on the text named below. It is valid for this SAE on"
    " this model only, it is nobody's approval, and it grants nothing. The colours that limit the findings are measured"
    " on the probes, in the chapter before."
)
ONE_TRAINING = (
    "What this does not say: a feature that only one training finds is not thereby wrong, but a claim about it rests on"
    " this one training. And a feature that both find need not mean what its examples suggest."
)
NO_STABILITY = (
    "Not measured: no second training with another seed was compared. Every claim about a single feature of this"
    " instrument rests on this one training."
)
FIDELITY_NOTE = (
    "FVU: share of the variance that is missed (0: nothing; 1: no better than the average). L0: features active at"
    " once, mean and 5% to 95%. Dead: share of features silent on all tokens of the row. Dense: share that fires on"
    " more than one token in ten. Delta CE and KL: nats a token with the reconstruction spliced in, on the spliced"
    " tokens, with a 95% interval (cluster bootstrap). CE recovered: of the loss from replacing the inner state by"
    " the mean residual of the site, the share that the reconstruction wins back. KL ratio: to a random error of equal"
    f" norm. {NOT_MEASURED_SHORT}: not measured."
)
_SCOPES = {"all": "all text", "plain": "plain text", "chat": "in chat template"}
_COLUMNS = (
    Column("Text"),
    Column("Tokens", numeric=True),
    Column("Spliced", numeric=True),
    Column("FVU", numeric=True),
    Column("Cosine", numeric=True),
    Column("L0", numeric=True),
    Column("5% to 95%", numeric=True),
    Column("Dead", numeric=True),
    Column("Dense", numeric=True),
    Column("Delta CE", numeric=True),
    Column("95% interval", numeric=True),
    Column("CE recov.", numeric=True),
    Column("KL", numeric=True),
    Column("KL ratio", numeric=True),
)


def certificate_views(findings: Findings, instruments: Sequence[Instrument]) -> tuple[CertificateView, ...]:
    """Return a page an instrument; one without a certificate says why it has none."""
    return tuple(_page(findings.model, instrument) for instrument in instruments)


def _page(model: ModelRecord, instrument: Instrument) -> CertificateView:
    certificate = instrument.result.certificate
    place = instrument.place_id("certificate")
    note = visible(instrument.result.certificate_note)
    return CertificateView(
        id=place,
        title=f"Certificate of {instrument.label}",
        lead=LEAD if certificate else f"The SAE {visible(instrument.sae)} has no certificate for this model.",
        missing="" if certificate else f"Reason given: {note or 'none'}",
        warning=_warning(certificate, instrument.result.record, model) if certificate else "",
        facts=_facts(certificate, instrument.result.record) if certificate else (),
        fidelity=_fidelity(certificate, table_id=f"{place}-fidelity"),
        chart=_chart(certificate, instrument, chart_id=f"{place}-curve"),
        curve=_curve(certificate.curve if certificate else (), table_id=f"{place}-points"),
        stability=_stability(certificate.stability) if certificate else (),
    )


def _warning(certificate: Certificate, sae: SaeRecord, model: ModelRecord) -> str:
    """Return what in the certificate is not what was audited; nothing in a sound record."""
    other = [
        name
        for name, stated, used in (
            ("SAE", certificate.sae_digest, sae.digest),
            ("model", certificate.model_digest, model.digest),
        )
        if stated != used
    ]
    if not other:
        return ""
    return f"This certificate names another digest of the {' and of the '.join(other)} than this audit used."


def _facts(certificate: Certificate, sae: SaeRecord) -> tuple[tuple[Fact, ...], ...]:
    return (
        (
            Fact("SAE", visible(certificate.sae)),
            Fact("SAE digest", visible(certificate.sae_digest), code=True),
            Fact("Site", visible(certificate.site), code=True),
            Fact("Features (latents)", feature_words(sae)),
            Fact("Trained on", training_words(sae)),
            Fact("Licence", visible(sae.licence)),
            Fact("Measured with", f"{visible(certificate.tool)}; {visible(certificate.schema)}"),
        ),
        (
            Fact("Model", f"{visible(certificate.model)}, {visible(certificate.dtype)}"),
            Fact("Model digest", visible(certificate.model_digest), code=True),
            Fact("Text", visible(certificate.text)),
            Fact("Text digest", visible(certificate.text_digest), code=True),
            Fact("Selection", visible(certificate.selection)),
            Fact(
                "Size",
                f"{plural(certificate.documents, 'document')}, {plural(certificate.sequences, 'sequence')},"
                f" {plural(certificate.tokens, 'token')}",
            ),
            Fact(
                "Excluded",
                f"{plural(certificate.outliers, 'outlier')}: residual norm above {decimal(certificate.outlier_limit)}",
            ),
        ),
    )


def training_words(sae: SaeRecord) -> str:
    """Return how much an SAE was trained on; an update is one token seen, repeats included."""
    if sae.training_tokens is None:
        return "not stated by its files"
    if sae.training_updates is None:
        return f"{count(sae.training_tokens)} tokens"
    return f"{count(sae.training_tokens)} tokens; {count(sae.training_updates)} updates (tokens seen, with repeats)"


def feature_words(sae: SaeRecord) -> str:
    """Return how many features an SAE has, and how many may be active at once where that is fixed."""
    bound = f"at most {count(sae.k)} active at once" if sae.k is not None else "no fixed number active at once"
    return f"{count(sae.latents)}, {bound}"


def _fidelity(certificate: Certificate | None, *, table_id: str) -> Table:
    rows = tuple(_row(row) for row in certificate.rows) if certificate else ()
    left_out = len(rows) - PRINTED_SCOPES
    return Table(
        id=table_id,
        caption="Fidelity by kind of text",
        columns=_COLUMNS,
        rows=rows,
        printed=rows[:PRINTED_SCOPES],
        cut=(
            f"The first {PRINTED_SCOPES} of {len(rows)} rows are printed; the other {left_out} are in findings.json,"
            " attached to this file, and in the HTML report."
            if left_out > 0
            else ""
        ),
        note=FIDELITY_NOTE,
        empty="The certificate holds no measurement.",
        layout="sheet",
    )


def _row(row: Fidelity) -> Row:
    return Row(
        (
            Cell(_SCOPES.get(row.scope, visible(row.scope))),
            Cell(count(row.tokens)),
            Cell(count(row.spliced_tokens)),
            Cell(decimal(row.fvu, 3)),
            Cell(decimal(row.cosine, 3)),
            Cell(decimal(row.l0_mean, 1)),
            Cell(f"{decimal(row.l0_p05, 0)} to {decimal(row.l0_p95, 0)}"),
            Cell(_short(None if row.dead_share is None else share(row.dead_share))),
            Cell(_short(None if row.dense_share is None else share(row.dense_share))),
            *_rise(row.delta_ce),
            Cell(_short(None if row.ce_recovered is None else share(row.ce_recovered))),
            Cell(_short(None if row.kl is None else decimal(row.kl, 3))),
            Cell(_short(None if row.kl_ratio is None else decimal(row.kl_ratio))),
        )
    )


def _rise(delta: Estimate | None) -> tuple[Cell, Cell]:
    if delta is None:
        return Cell(NOT_MEASURED_SHORT), Cell(NOT_MEASURED_SHORT)
    return Cell(signed(delta.value, 3)), Cell(interval(delta, 3))


def _short(text: str | None) -> str:
    return NOT_MEASURED_SHORT if text is None else text


def _chart(certificate: Certificate | None, instrument: Instrument, *, chart_id: str) -> Chart | None:
    """Return the training's curve, or None when the certificate holds no point of it."""
    points = tuple(p for p in certificate.curve if _measured(p)) if certificate else ()
    if not points:
        return None
    through = "" if instrument.alone else f" of {instrument.label}"
    title = f"The training{through}: share of the variance missed (FVU) on text that was held out"
    first, last = points[0], points[-1]
    spoken = f"{_spoken(first)}; at the end, {_spoken(last)}"
    above = sum(max(p.fvu_plain or 0, p.fvu_chat or 0) > 1 for p in points)
    limit = f" Beyond the scale, above 1 (no better than the average): {plural(above, 'point')}." if above else ""
    return Chart(
        id=chart_id,
        svg=curve_chart(
            tuple(CurvePoint(p.updates, p.fvu_plain, p.fvu_chat) for p in points),
            chart_id=chart_id,
            title=f"{title}. {spoken}.",
            description="The table below has the numbers.",
        ),
        title=title,
        description=spoken,
        caption=f"{title}. Lower is better.{limit}",
    )


def _measured(point: TrainingPoint) -> bool:
    return point.fvu_plain is not None or point.fvu_chat is not None


def _spoken(point: TrainingPoint) -> str:
    return (
        f"after {count(point.updates)} updates FVU {decimal(point.fvu_plain, 3)} on plain text and"
        f" {decimal(point.fvu_chat, 3)} on chat"
    )


def _curve(points: tuple[TrainingPoint, ...], *, table_id: str) -> Table:
    rows = tuple(
        Row(
            (
                Cell(count(point.updates)),
                Cell(decimal(point.fvu_plain, 3)),
                Cell(decimal(point.fvu_chat, 3)),
                Cell(count(point.dead)),
            )
        )
        for point in points
    )
    table = Table(
        id=table_id,
        caption="Points of the training curve",
        columns=(
            Column("Updates"),
            Column("FVU, plain text", numeric=True),
            Column("FVU, chat", numeric=True),
            Column("Dead features", numeric=True),
        ),
        rows=rows,
        empty="The certificate holds no training curve.",
        layout="sheet",
    )
    if len(rows) <= PRINTED_POINTS:
        return whole(table)
    steps = [round(n * (len(rows) - 1) / (PRINTED_POINTS - 1)) for n in range(PRINTED_POINTS)]
    return Table(
        id=table.id,
        caption=table.caption,
        columns=table.columns,
        rows=rows,
        printed=tuple(rows[step] for step in steps),
        cut=f"{PRINTED_POINTS} of {len(rows)} points are printed; all are in findings.json and in the HTML report.",
        empty=table.empty,
        layout=table.layout,
    )


def _stability(stability: SeedStability | None) -> tuple[str, ...]:
    """Return how much of the SAE another training finds again, what chance gives, and what that does not say."""
    if stability is None:
        return (NO_STABILITY,)
    return (
        (
            f"Another training with another seed ({visible(stability.other)}, {visible(stability.other_digest)}) finds"
            f" {share(stability.share_decoder)} of the features again: each feature is matched with one of the other"
            " training (one to one, Hungarian method), and counts as found again when the cosine of the two decoder"
            f" directions is at least {decimal(stability.threshold)}."
            f" {share(stability.share_both)} reach it with their encoder directions too. Random directions of equal"
            f" shape in the other's place reach {share(stability.random_share)}: that is what chance gives. The median"
            f" cosine is {decimal(stability.median_cosine)}."
        ),
        ONE_TRAINING,
    )
