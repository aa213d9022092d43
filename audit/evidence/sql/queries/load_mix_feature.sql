-- Caller: store.ingest_shards. One row a prompt of a mix, SAE and latent that fired in it.
INSERT INTO mix_feature
WITH placed AS (
    -- Whole steps of 2^-60: a sum of floats would depend on the order of threads.
    SELECT
        r.prompt, r.sae, r.latent, r.activation,
        (r.activation::DOUBLE * 1152921504606846976)::HUGEINT AS steps,
        (r.position < c.position) = (p.frame = 'ab') AS of_first
    FROM read_parquet($rows) AS r
    INNER JOIN clause_start AS c USING (prompt)
    INNER JOIN prompt AS p USING (prompt)
)
SELECT
    prompt, sae, latent,
    coalesce(sum(steps) FILTER (of_first), 0)::DOUBLE / 1152921504606846976 AS first,
    coalesce(sum(steps) FILTER (NOT of_first), 0)::DOUBLE / 1152921504606846976 AS second,
    max(activation) AS largest
FROM placed
GROUP BY prompt, sae, latent
ORDER BY prompt, sae, latent
