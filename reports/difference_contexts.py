"""Side by side: the prompts in which a feature fires most, as either model reads them."""

from __future__ import annotations

from audit.records import DifferenceResult, FeatureContexts, PairedContext, PairedToken, Verdict
from reports.difference_view import ContextsView, PairedFeatureView, PromptView, SideView
from reports.difference_words import ELSEWHERE, DifferenceNames
from reports.language import N_, _
from reports.numbers import count, decimal, plural, signed, visible, visible_token
from reports.view import TokenView
from reports.words import word

PRINTED_FEATURES = 6
# A longer token is whole in the record; here it would push the other model's text off the page.
TOKEN_MOST = 120
_LEVELS = 4
_LEAD = N_(
    "Each text is read by both models. Shown are the held-out prompts in which a feature fires most on either model, at"
    " most two of each. The stronger a token's shade and underline, the more the feature fires there."
)


def contexts_view(result: DifferenceResult, names: DifferenceNames) -> ContextsView:
    """Return every feature of the record, and those that fit on paper."""
    titles = {row.id: f"{names.title(row.part)}, {names.row(row)}" for row in result.rows}
    same = {pair.base: pair.same for pair in result.instruments}
    features = tuple(
        _feature(shown, titles, names, shared=same.get(shown.sae, False), number=number)
        for number, shown in enumerate(result.contexts, start=1)
    )
    verdicts = {row.id: row.verdict for row in result.rows}
    said = (
        _("These are the features of rows that changed, the surest first.")
        if any(verdicts.get(row) is Verdict.CHANGED for shown in result.contexts for row in shown.rows)
        else _("No row of a feature changed; these moved most.")
    )
    left_out = len(features) - PRINTED_FEATURES
    return ContextsView(
        lead=f"{_(_LEAD)} {said}",
        features=features,
        printed=features[:PRINTED_FEATURES],
        cut=plural(
            left_out,
            "{count} more feature is in {elsewhere}.",
            "{count} more features are in {elsewhere}.",
            elsewhere=_(ELSEWHERE),
        )
        if left_out > 0
        else "",
        missing="" if features else _("Nothing is shown: no feature that was compared moved on any scenario."),
    )


def _feature(
    shown: FeatureContexts, titles: dict[str, str], names: DifferenceNames, *, shared: bool, number: int
) -> PairedFeatureView:
    """Return one feature; `shared` says whether both sides are in one unit."""
    peaks = [
        max((value for context in shown.contexts for value in _values(context, side)), default=0.0) for side in range(2)
    ]
    if shared:
        peaks = [max(peaks)] * 2
    where = names.instrument(shown.sae)
    latent = (
        str(shown.base_latent)
        if shown.base_latent == shown.new_latent
        else _("{base} in the base, {new} in the new", base=shown.base_latent, new=shown.new_latent)
    )
    return PairedFeatureView(
        id=f"paired-{number}",
        heading=_("Feature {latent}, {instrument}", latent=latent, instrument=where)
        if where
        else _("Feature {latent}", latent=latent),
        facts=_("Shown for: {rows}.", rows="; ".join(titles.get(row, visible(row)) for row in shown.rows))
        + ("" if shared else " " + _("The two SAEs need not share a unit: each side is shaded by its own maximum.")),
        prompts=tuple(_prompt(context, names, peaks) for context in shown.contexts),
    )


def _values(context: PairedContext, side: int) -> list[float]:
    return [token.new if side else token.base for token in context.tokens]


def _prompt(context: PairedContext, names: DifferenceNames, peaks: list[float]) -> PromptView:
    return PromptView(
        heading=_(
            "{concept}, {arm} arm, prompt {prompt}",
            concept=names.title(context.concept),
            arm=word(visible(context.arm).replace("_", "-")),
            prompt=visible(context.prompt),
        ),
        base=_side(context, _("base"), context.base_place, side=0, peak=peaks[0]),
        new=_side(context, _("new"), context.new_place, side=1, peak=peaks[1]),
        lines=tuple(_line(token) for token in context.tokens if token.base > 0 or token.new > 0),
    )


def _side(context: PairedContext, name: str, place: int | None, *, side: int, peak: float) -> SideView:
    most = max(_values(context, side), default=0.0)
    said = (
        _("silent here")
        if most <= 0
        else _("largest {activation}", activation=decimal(most))
        if place is None
        else _("largest {activation}, number {place} of its strongest", activation=decimal(most), place=place)
    )
    return SideView(
        head=_("{model}: {said}", model=name, said=said),
        tokens=tuple(_token(token, token.new if side else token.base, peak) for token in context.tokens),
    )


def _token(token: PairedToken, activation: float, peak: float) -> TokenView:
    level = min(_LEVELS, 1 + int(_LEVELS * activation / peak)) if activation > 0 and peak > 0 else 0
    return TokenView(
        text=_text(token.text),
        level=str(level),
        title=_(
            "activation {activation}, level {level} of {levels}",
            activation=decimal(activation),
            level=level,
            levels=_LEVELS,
        )
        if level
        else "",
    )


def _line(token: PairedToken) -> str:
    return _(
        "“{token}”: base {base}, new {new} ({shift})",
        token=_text(token.text).strip(),
        base=decimal(token.base),
        new=decimal(token.new),
        shift=signed(token.new - token.base),
    )


def _text(text: str) -> str:
    shown = visible_token(text)
    if len(shown) <= TOKEN_MOST:
        return shown
    return _("{start}… ({count} characters)", start=shown[:TOKEN_MOST], count=count(len(text)))
