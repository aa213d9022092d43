-- Caller: versions.read_token_rows. One row a wanted prompt, position and latent of one SAE that fires there.
SELECT prompt, position, latent, activation
FROM read_parquet($rows)
WHERE sae = $sae AND prompt IN (SELECT unnest($prompts))
ORDER BY prompt, position, latent
