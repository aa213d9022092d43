-- Caller: whoever checks an edge. One row an edge and reference: mean fall of the later feature's maximum over scenarios.
SELECT
    concept,
    sae,
    latent,
    reference,
    downstream_sae,
    downstream_latent,
    count(*) AS scenarios,
    avg(untouched - changed ORDER BY scenario) AS effect
FROM downstream
GROUP BY concept, sae, latent, reference, downstream_sae, downstream_latent
ORDER BY concept, sae, latent, reference, downstream_sae, downstream_latent
