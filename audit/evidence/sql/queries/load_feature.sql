-- Caller: store.ingest_shards. One row an SAE and latent that fired anywhere.
INSERT INTO feature
SELECT sae, latent, sum(positions) AS tokens, max(max) AS max
FROM prompt_feature
GROUP BY sae, latent
ORDER BY sae, latent
