-- Caller: scores.read_contexts. One row a prompt: where a latent fires most on held-out scenarios, one prompt a scenario.
SELECT f.prompt, p.concept, p.arm, f.max
FROM prompt_feature AS f INNER JOIN prompt AS p USING (prompt)
WHERE f.sae = $sae AND f.latent = $latent AND p.split = 'confirmation'
QUALIFY row_number() OVER (PARTITION BY p.scenario ORDER BY f.max DESC, f.prompt) = 1
ORDER BY f.max DESC, f.prompt
LIMIT $most
