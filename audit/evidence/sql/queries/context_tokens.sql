-- Caller: scores.read_contexts. One row a content token of a prompt, with the latent's activation (0 where silent).
SELECT t.piece, coalesce(a.activation, 0) AS activation
FROM token AS t
LEFT JOIN (SELECT position, activation FROM read_parquet($rows) WHERE prompt = $prompt AND sae = $sae AND latent = $latent) AS a
    USING (position)
WHERE t.prompt = $prompt AND t.content
ORDER BY t.position
