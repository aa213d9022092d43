-- Caller: store.ingest_shards. One row a prompt, SAE and latent that fired in it.
INSERT INTO prompt_feature
SELECT prompt, sae, latent, max(activation) AS max, count(*) AS positions
FROM read_parquet($rows)
GROUP BY prompt, sae, latent
ORDER BY prompt, sae, latent
