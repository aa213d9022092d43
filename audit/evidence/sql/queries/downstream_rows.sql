-- Caller: causal_rows.read_causal_rows. One row a scenario, lowered feature and later feature, in the order of recording.
SELECT
    concept,
    scenario,
    sae,
    latent,
    reference,
    downstream_sae,
    downstream_latent,
    untouched - changed AS fall
FROM downstream
ORDER BY rowid
