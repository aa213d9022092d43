"""How well an SAE reproduces what the model computes, and what it was certified for."""

from __future__ import annotations

from dataclasses import dataclass

from audit.records.words import Colour, Estimate

CERTIFICATE_SCHEMA = "affidavit/sae-certificate/1"


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How well an SAE reproduces the residual stream on a set of tokens.

    `fvu` is the fraction of variance unexplained about the mean (predicting the mean gives 1). `delta_ce` (nats per
    token, with a cluster bootstrap interval) is the rise in next-token cross-entropy when the reconstruction is spliced
    in; `ce_recovered` the share of the loss from ablating to the mean residual that the reconstruction wins back; `kl`
    (nats) the divergence of the spliced next-token distribution; `kl_ratio` that divergence over the one caused by a
    random error of equal norm. They are None where they were not measured.
    """

    sae: str
    scope: str
    tokens: int
    fvu: float
    cosine: float
    l0_mean: float
    l0_p05: float
    l0_p95: float
    dead_share: float | None
    dense_share: float | None
    spliced_tokens: int
    delta_ce: Estimate | None
    ce: float | None
    ce_recovered: float | None
    kl: float | None
    kl_ratio: float | None
    colour: Colour
    reason: str


@dataclass(frozen=True, slots=True)
class SeedStability:
    """Which of an SAE's latents another training with another seed finds too (Paulo and Belrose 2025, 2501.16615).

    Latents are matched one to one by the Hungarian method on decoder cosines. A latent counts as found again when its
    match has a decoder cosine of at least `threshold`; `share_both` asks the same of the encoder directions too.
    `random_share` is the first share for random directions of equal shape in the other's place: what chance gives.
    `cosines` are the decoder cosines by latent; a summary leaves them out.
    """

    other: str
    other_digest: str
    threshold: float
    share_decoder: float
    share_both: float
    random_share: float
    median_cosine: float
    cosines: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TrainingPoint:
    """One point of a training's curve, on tokens that were not trained on."""

    updates: int
    fvu_plain: float | None
    fvu_chat: float | None
    dead: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What an SAE was measured to do on text that it was not trained on; valid for one SAE on one model.

    `rows` holds the scopes `all`, `plain`, `chat` and one for each register of the text.
    """

    schema: str
    sae: str
    sae_digest: str
    site: str
    model: str
    model_digest: str
    dtype: str
    text: str
    text_digest: str
    selection: str
    documents: int
    sequences: int
    tokens: int
    outliers: int
    outlier_limit: float
    rows: tuple[Fidelity, ...]
    stability: SeedStability | None
    curve: tuple[TrainingPoint, ...]
    tool: str

    def row(self, scope: str) -> Fidelity | None:
        """Return the row of a scope, or None when the text had no such tokens."""
        return next((row for row in self.rows if row.scope == scope), None)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Token positions that no statistic saw, counted."""

    tokens_total: int
    template_tokens: int
    outlier_tokens: int
    outlier_limit: float
    kept_tokens: int


@dataclass(frozen=True, slots=True)
class PrecisionResult:
    """How an audit in reduced precision differs from float32, measured on some of its prompts in both.

    `shared_firings` is the share of (token, latent) pairs that fire in both among those that fire in either;
    `median_change` the median relative change of an activation that fires in both. Of the `findings` those that vary on
    the sample are `compared`, and `same_sign` of these kept the sign of their mean effect; `largest_shift` is the
    largest mean absolute change of a finding's effect on a scenario, in its standard deviations over scenarios, None
    where none varies.
    """

    prompts: int
    tokens: int
    firings: int
    shared_firings: float
    median_change: float | None
    findings: int
    compared: int
    same_sign: int
    largest_shift: float | None
