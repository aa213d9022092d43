-- Caller: activations.read_activations. One row a wanted context and content token of its prompt, with the latent's activation (0 where
-- silent). A context is a latent in a prompt: the lists latents and prompts are of equal length.
WITH wanted AS (SELECT unnest($latents) AS latent, unnest($prompts) AS prompt),
fired AS (
    SELECT a.prompt, a.latent, a.position, a.activation
    FROM read_parquet($rows) AS a
    INNER JOIN wanted AS w ON w.prompt = a.prompt AND w.latent = a.latent
    WHERE a.sae = $sae
)
SELECT w.latent, w.prompt, t.piece, coalesce(f.activation, 0) AS activation
FROM wanted AS w
INNER JOIN token AS t ON t.prompt = w.prompt
LEFT JOIN fired AS f ON f.prompt = w.prompt AND f.latent = w.latent AND f.position = t.position
WHERE t.content
ORDER BY w.latent, w.prompt, t.position
