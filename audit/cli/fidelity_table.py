"""Certificates and latents as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from audit.inspection import LatentView
from audit.records import Certificate, Estimate, Fidelity

_COLUMNS = (
    "scope",
    "tokens",
    "FVU",
    "cosine",
    "L0",
    "5-95%",
    "dead",
    "dense",
    "dCE",
    "95%",
    "CE rec.",
    "KL",
    "ratio",
    "",
)
_MARK = ("", "·", "▸", "▶")


def certificate_lines(certificate: Certificate) -> Iterator[str]:
    """Yield a certificate as lines: what was measured, the table, the seed stability."""
    yield f"sae       {certificate.sae} ({certificate.sae_digest[:19]})"
    yield f"model     {certificate.model} ({certificate.model_digest[:19]}), {certificate.dtype}, {certificate.site}"
    yield f"text      {certificate.text} ({certificate.text_digest[:19]}): {certificate.selection}"
    yield (
        f"          {certificate.documents:,} documents, {certificate.tokens:,} tokens;"
        f" {certificate.outliers:,} outliers above norm {certificate.outlier_limit:,.0f} left out"
    )
    yield ""
    rows = [_COLUMNS, *(_row(row) for row in certificate.rows)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
    yield ""
    yield "dead and dense: share of latents that fire on none, and on more than 10%, of all tokens read"
    yield "dCE: rise of the cross-entropy in nats when the reconstruction is spliced in"
    yield "CE rec.: share won back of what the mean residual costs; ratio: KL over that of a random error of equal norm"
    if (stability := certificate.stability) is not None:
        yield (
            f"seeds     {stability.share_decoder:.1%} of the latents found again by {stability.other} (decoder cosine"
            f" >= {stability.threshold:g}); {stability.share_both:.1%} with the encoder too; by chance"
            f" {stability.random_share:.1%}; median cosine {stability.median_cosine:.2f}"
        )


def latent_lines(view: LatentView) -> Iterator[str]:
    """Yield a latent as lines."""
    yield f"{view.sae}, latent {view.latent}"
    yield f"density   {view.density:.3%} of {view.tokens:,} tokens"
    if view.quantiles is None:
        yield "          it never fires on this text"
    else:
        yield "activation " + ", ".join(
            f"{share} {value:.2f}" for share, value in zip(("25%", "50%", "75%", "max"), view.quantiles, strict=True)
        )
    busiest = sorted(view.registers.items(), key=lambda item: -item[1])[:4]
    yield "registers " + ", ".join(f"{name} {share:.2%}" for name, share in busiest)
    yield "promotes  " + " ".join(repr(token) for token in view.promoted) + "  (logit lens; late layers only, unscored)"
    level = ""
    for context in view.contexts:
        if context.level != level:
            level = context.level
            yield f"{level}:"
        text = "".join(_token(t.text, t.activation, context.peak) for t in context.tokens)
        yield f"  {context.peak:8.2f}  {text}  [{context.register}{', chat' if context.chat else ''}]"


def _token(text: str, activation: float, peak: float) -> str:
    plain = "".join(c if c.isprintable() else "⏎" if c == "\n" else "�" for c in text)
    if activation <= 0:
        return plain
    level = min(3, 1 + int(3 * activation / peak * 0.999))
    return f"{_MARK[level]}{plain}"


def _row(row: Fidelity) -> tuple[str, ...]:
    return (
        row.scope,
        f"{row.tokens:,}",
        f"{row.fvu:.3f}",
        f"{row.cosine:.3f}",
        f"{row.l0_mean:.1f}",
        f"{row.l0_p05:.0f}-{row.l0_p95:.0f}",
        "" if row.dead_share is None else f"{row.dead_share:.2%}",
        "" if row.dense_share is None else f"{row.dense_share:.2%}",
        "" if row.delta_ce is None else f"{row.delta_ce.value:.3f}",
        _interval(row.delta_ce),
        "" if row.ce_recovered is None else f"{row.ce_recovered:.1%}",
        "" if row.kl is None else f"{row.kl:.3f}",
        "" if row.kl_ratio is None else f"{row.kl_ratio:.2f}",
        row.colour.value,
    )


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.3f} to {estimate.high:.3f}"
