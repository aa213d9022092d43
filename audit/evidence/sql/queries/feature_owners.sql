-- Caller: scores.read_owners. One row a concept and latent that is confirmed or causal for it in either contrast, strongest first.
SELECT concept, latent, max(abs(d_z)) AS strength
FROM finding
WHERE sae = $sae AND rung IN ('confirmed', 'causal')
GROUP BY concept, latent
ORDER BY strength DESC, concept, latent
