-- Caller: scores.read_contexts. One row a latent and prompt: where each latent fires most on held-out scenarios, one prompt a scenario.
WITH strongest AS (
    SELECT f.latent, f.prompt, p.concept, p.arm, f.max
    FROM prompt_feature AS f INNER JOIN prompt AS p USING (prompt)
    WHERE f.sae = $sae AND f.latent IN (SELECT unnest($latents)) AND p.split = 'confirmation'
    QUALIFY row_number() OVER (PARTITION BY f.latent, p.scenario ORDER BY f.max DESC, f.prompt) = 1
)
SELECT latent, prompt, concept, arm
FROM strongest
QUALIFY row_number() OVER (PARTITION BY latent ORDER BY max DESC, prompt) <= $most
ORDER BY latent, max DESC, prompt
