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
from reports.language import N_, _
from reports.numbers import count, decimal, interval, plural, share, signed, visible
from reports.view import Cell, CertificateView, Chart, Column, Fact, Row, Table, whole

PRINTED_SCOPES = 16
PRINTED_POINTS = 4
NOT_MEASURED_SHORT = N_("n. m.")

LEAD = N_(
    "A sheet of measurements: what this instrument does on the text named below. It is valid for this SAE on"
    " this model only, it is nobody's approval, and it grants nothing. The colours that limit the findings are measured"
    " on the probes, in the chapter before."
)
ONE_TRAINING = N_(
    "What this does not say: a feature that only one training finds is not thereby wrong, but a claim about it rests on"
    " this one training. And a feature that both find need not mean what its examples suggest."
)
NO_STABILITY = N_(
    "Not measured: no second training with another seed was compared. Every claim about a single feature of this"
    " instrument rests on this one training."
)
FIDELITY_NOTE = N_(
    "FVU: share of the variance that is missed (0: nothing; 1: no better than the average). L0: features active at"
    " once, mean and 5% to 95%. Dead: share of features silent on all tokens of the row. Dense: share that fires on"
    " more than one token in ten. Delta CE and KL: nats a token with the reconstruction spliced in, on the spliced"
    " tokens, with a 95% interval (cluster bootstrap). CE recovered: of the loss from replacing the inner state by"
    " the mean residual of the site, the share that the reconstruction wins back. KL ratio: to a random error of equal"
    " norm. n. m.: not measured."
)
_SCOPES = {"all": N_("all text"), "plain": N_("plain text"), "chat": N_("in chat template")}


def certificate_views(findings: Findings, instruments: Sequence[Instrument]) -> tuple[CertificateView, ...]:
    """Return a page an instrument; one without a certificate says why it has none."""
    return tuple(_page(findings.model, instrument) for instrument in instruments)


def _page(model: ModelRecord, instrument: Instrument) -> CertificateView:
    certificate = instrument.result.certificate
    place = instrument.place_id("certificate")
    note = visible(instrument.result.certificate_note)
    return CertificateView(
        id=place,
        title=_("Certificate of {instrument}", instrument=instrument.label),
        lead=_(LEAD)
        if certificate
        else _("The SAE {sae} has no certificate for this model.", sae=visible(instrument.sae)),
        missing="" if certificate else _("Reason given: {reason}", reason=note or _("none")),
        warning=_warning(certificate, instrument.result.record, model) if certificate else "",
        facts=_facts(certificate, instrument.result.record) if certificate else (),
        fidelity=_fidelity(certificate, table_id=f"{place}-fidelity"),
        chart=_chart(certificate, instrument, chart_id=f"{place}-curve"),
        curve=_curve(certificate.curve if certificate else (), table_id=f"{place}-points"),
        stability=_stability(certificate.stability) if certificate else (),
    )


def _warning(certificate: Certificate, sae: SaeRecord, model: ModelRecord) -> str:
    """Return what in the certificate is not what was audited; nothing in a sound record."""
    other_sae, other_model = certificate.sae_digest != sae.digest, certificate.model_digest != model.digest
    if other_sae and other_model:
        return _("This certificate names another digest of the SAE and of the model than this audit used.")
    if other_sae:
        return _("This certificate names another digest of the SAE than this audit used.")
    if other_model:
        return _("This certificate names another digest of the model than this audit used.")
    return ""


def _facts(certificate: Certificate, sae: SaeRecord) -> tuple[tuple[Fact, ...], ...]:
    return (
        (
            Fact(_("SAE"), visible(certificate.sae)),
            Fact(_("SAE digest"), visible(certificate.sae_digest), code=True),
            Fact(_("Site"), visible(certificate.site), code=True),
            Fact(_("Features (latents)"), feature_words(sae)),
            Fact(_("Trained on"), training_words(sae)),
            Fact(_("Licence"), visible(sae.licence)),
            Fact(_("Measured with"), f"{visible(certificate.tool)}; {visible(certificate.schema)}"),
        ),
        (
            Fact(_("Model"), f"{visible(certificate.model)}, {visible(certificate.dtype)}"),
            Fact(_("Model digest"), visible(certificate.model_digest), code=True),
            Fact(_("Text"), visible(certificate.text)),
            Fact(_("Text digest"), visible(certificate.text_digest), code=True),
            Fact(_("Selection"), visible(certificate.selection)),
            Fact(
                _("Size"),
                ", ".join(
                    (
                        plural(certificate.documents, "{count} document", "{count} documents"),
                        plural(certificate.sequences, "{count} sequence", "{count} sequences"),
                        plural(certificate.tokens, "{count} token", "{count} tokens"),
                    )
                ),
            ),
            Fact(
                _("Excluded"),
                plural(
                    certificate.outliers,
                    "{count} outlier: residual norm above {limit}",
                    "{count} outliers: residual norm above {limit}",
                    limit=decimal(certificate.outlier_limit),
                ),
            ),
        ),
    )


def training_words(sae: SaeRecord) -> str:
    """Return how much an SAE was trained on; an update is one token seen, repeats included."""
    if sae.training_tokens is None:
        return _("not stated by its files")
    if sae.training_updates is None:
        return _("{tokens} tokens", tokens=count(sae.training_tokens))
    return _(
        "{tokens} tokens; {updates} updates (tokens seen, with repeats)",
        tokens=count(sae.training_tokens),
        updates=count(sae.training_updates),
    )


def feature_words(sae: SaeRecord) -> str:
    """Return how many features an SAE has, and how many may be active at once where that is fixed."""
    if sae.k is None:
        return _("{latents}, no fixed number active at once", latents=count(sae.latents))
    return _("{latents}, at most {active} active at once", latents=count(sae.latents), active=count(sae.k))


def _fidelity(certificate: Certificate | None, *, table_id: str) -> Table:
    rows = tuple(_row(row) for row in certificate.rows) if certificate else ()
    left_out = len(rows) - PRINTED_SCOPES
    return Table(
        id=table_id,
        caption=_("Fidelity by kind of text"),
        columns=_columns(),
        rows=rows,
        printed=rows[:PRINTED_SCOPES],
        cut=(
            _(
                "The first {printed_scopes} of {rows} rows are printed; the other {left_out} are in findings.json,"
                " attached to this file, and in the HTML report.",
                printed_scopes=PRINTED_SCOPES,
                rows=len(rows),
                left_out=left_out,
            )
            if left_out > 0
            else ""
        ),
        note=_(FIDELITY_NOTE),
        empty=_("The certificate holds no measurement."),
        layout="sheet",
    )


def _row(row: Fidelity) -> Row:
    return Row(
        (
            Cell(_(_SCOPES[row.scope]) if row.scope in _SCOPES else visible(row.scope)),
            Cell(count(row.tokens)),
            Cell(count(row.spliced_tokens)),
            Cell(decimal(row.fvu, 3)),
            Cell(decimal(row.cosine, 3)),
            Cell(decimal(row.l0_mean, 1)),
            Cell(_("{low} to {high}", low=decimal(row.l0_p05, 0), high=decimal(row.l0_p95, 0))),
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
        return Cell(_(NOT_MEASURED_SHORT)), Cell(_(NOT_MEASURED_SHORT))
    return Cell(signed(delta.value, 3)), Cell(interval(delta, 3))


def _short(text: str | None) -> str:
    return _(NOT_MEASURED_SHORT) if text is None else text


def _chart(certificate: Certificate | None, instrument: Instrument, *, chart_id: str) -> Chart | None:
    """Return the training's curve, or None when the certificate holds no point of it."""
    points = tuple(p for p in certificate.curve if _measured(p)) if certificate else ()
    if not points:
        return None
    title = (
        _("The training: share of the variance missed (FVU) on text that was held out")
        if instrument.alone
        else _(
            "The training of {instrument}: share of the variance missed (FVU) on text that was held out",
            instrument=instrument.label,
        )
    )
    first, last = points[0], points[-1]
    spoken = _("{first}; at the end, {last}", first=_spoken(first), last=_spoken(last))
    above = sum(max(p.fvu_plain or 0, p.fvu_chat or 0) > 1 for p in points)
    limit = (
        " "
        + plural(
            above,
            "Beyond the scale, above 1 (no better than the average): {count} point.",
            "Beyond the scale, above 1 (no better than the average): {count} points.",
        )
        if above
        else ""
    )
    return Chart(
        id=chart_id,
        svg=curve_chart(
            tuple(CurvePoint(p.updates, p.fvu_plain, p.fvu_chat) for p in points),
            chart_id=chart_id,
            title=f"{title}. {spoken}.",
            description=_("The table below has the numbers."),
        ),
        title=title,
        description=spoken,
        caption=_("{title}. Lower is better.", title=title) + limit,
    )


def _measured(point: TrainingPoint) -> bool:
    return point.fvu_plain is not None or point.fvu_chat is not None


def _spoken(point: TrainingPoint) -> str:
    return _(
        "after {updates} updates FVU {fvu_plain} on plain text and {fvu_chat} on chat",
        updates=count(point.updates),
        fvu_plain=decimal(point.fvu_plain, 3),
        fvu_chat=decimal(point.fvu_chat, 3),
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
        caption=_("Points of the training curve"),
        columns=(
            Column(_("Updates")),
            Column(_("FVU, plain text"), numeric=True),
            Column(_("FVU, chat"), numeric=True),
            Column(_("Dead features"), numeric=True),
        ),
        rows=rows,
        empty=_("The certificate holds no training curve."),
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
        cut=_(
            "{printed_points} of {rows} points are printed; all are in findings.json and in the HTML report.",
            printed_points=PRINTED_POINTS,
            rows=len(rows),
        ),
        empty=table.empty,
        layout=table.layout,
    )


def _stability(stability: SeedStability | None) -> tuple[str, ...]:
    """Return how much of the SAE another training finds again, what chance gives, and what that does not say."""
    if stability is None:
        return (_(NO_STABILITY),)
    return (
        _(
            "Another training with another seed ({other}, {other_digest}) finds {share_decoder} of the features"
            " again: each feature is matched with one of the other training (one to one, Hungarian method), and"
            " counts as found again when the cosine of the two decoder directions is at least {threshold}."
            " {share_both} reach it with their encoder directions too. Random directions of equal shape in the"
            " other's place reach {random_share}: that is what chance gives. The median cosine is {median_cosine}.",
            other=visible(stability.other),
            other_digest=visible(stability.other_digest),
            share_decoder=share(stability.share_decoder),
            threshold=decimal(stability.threshold),
            share_both=share(stability.share_both),
            random_share=share(stability.random_share),
            median_cosine=decimal(stability.median_cosine),
        ),
        _(ONE_TRAINING),
    )


def _columns() -> tuple[Column, ...]:
    return (
        Column(_("Text")),
        Column(_("Tokens"), numeric=True),
        Column(_("Spliced"), numeric=True),
        Column(_("FVU"), numeric=True),
        Column(_("Cosine"), numeric=True),
        Column("L0", numeric=True),
        Column(_("5% to 95%"), numeric=True),
        Column(_("Dead"), numeric=True),
        Column(_("Dense"), numeric=True),
        Column(_("Delta CE"), numeric=True),
        Column(_("95% interval"), numeric=True),
        Column(_("CE recov."), numeric=True),
        Column(_("KL"), numeric=True),
        Column(_("KL ratio"), numeric=True),
    )
