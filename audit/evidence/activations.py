"""Read how strongly a latent fires on each token of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from audit.evidence.store import Store
from audit.records import TokenActivation


def read_activations(
    store: Store, *, sae: str, wanted: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[TokenActivation, ...]]:
    """Return the content tokens of prompts with the activation of a latent on each, by (latent, prompt).

    Args:
        store: the evidence.
        sae: whose latents.
        wanted: (latent, prompt) of each; a text that the evidence withholds is withheld here too.
    """
    if not wanted:
        return {}
    rows = store.query(
        "context_tokens",
        {
            "sae": sae,
            "latents": [latent for latent, _ in wanted],
            "prompts": [prompt for _, prompt in wanted],
            "rows": store.row_shards,
        },
    )
    found: dict[tuple[int, int], list[TokenActivation]] = {key: [] for key in wanted}
    for latent, prompt, piece, activation in rows.itertuples(index=False):
        found[int(latent), int(prompt)].append(TokenActivation(str(piece), float(activation)))
    return {key: tuple(tokens) for key, tokens in found.items()}
