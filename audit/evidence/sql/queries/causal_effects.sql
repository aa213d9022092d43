-- Caller: whoever checks a causal effect. One row a concept, question, SAE, feature and reference: means over scenarios, in nats.
SELECT
    part,
    asked,
    sae,
    first AS latent,
    reference,
    count(*) AS scenarios,
    sum(changed::INTEGER) AS changed,
    avg(untouched - outcome ORDER BY scenario) AS effect,
    avg(kl ORDER BY scenario) AS kl
FROM intervention
WHERE kind <> 'pair'
GROUP BY part, asked, sae, first, reference
ORDER BY part, asked, sae, latent, reference
