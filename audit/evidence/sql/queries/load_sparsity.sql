-- Caller: store.ingest_shards. One row an SAE and concept, and one with concept 'all'. Kept tokens on which nothing fired count as 0.
INSERT INTO sparsity
WITH fired AS (
    SELECT sae, prompt, position, count(*) AS l0
    FROM read_parquet($rows)
    GROUP BY sae, prompt, position
),
active AS (
    SELECT sae, prompt, count(*) AS tokens
    FROM fired
    GROUP BY sae, prompt
),
silent AS (
    SELECT c.sae, c.prompt, r.kept - coalesce(a.tokens, 0) AS tokens
    FROM reconstruction AS c
    INNER JOIN residual AS r USING (prompt, site)
    LEFT JOIN active AS a ON a.sae = c.sae AND a.prompt = c.prompt
),
counted AS (
    SELECT sae, prompt, l0 FROM fired
    UNION ALL
    SELECT sae, prompt, 0 AS l0 FROM silent, range(silent.tokens)
),
placed AS (
    SELECT c.sae, p.concept, c.l0 FROM counted AS c INNER JOIN prompt AS p USING (prompt)
    UNION ALL
    SELECT c.sae, 'all' AS concept, c.l0 FROM counted AS c
)
SELECT sae, concept, count(*) AS tokens, avg(l0) AS l0_mean, quantile_cont(l0, 0.05) AS l0_p05, quantile_cont(l0, 0.95) AS l0_p95
FROM placed
GROUP BY sae, concept
ORDER BY sae, concept
