-- Caller: store.ingest_shards. One row a captured prompt and SAE.
INSERT INTO reconstruction
SELECT prompt, site, unnest(sae) AS sae, unnest(error) AS error, unnest(cosine) AS cosine
FROM read_parquet($prompts)
ORDER BY prompt, sae
