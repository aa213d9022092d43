-- Caller: scores.read_contexts. One row a latent and prompt: the strongest held-out scenarios of each latent, the one in the middle of those in
-- which it fires, and the one at nine tenths of their ranks. A scenario's strongest prompt stands for it.
WITH strongest AS (
    SELECT f.latent, f.prompt, p.concept, p.arm, f.max
    FROM prompt_feature AS f
    INNER JOIN prompt AS p USING (prompt)
    -- Cells of mixes are no arms of a concept.
    INNER JOIN concept AS c USING (concept)
    WHERE f.sae = $sae AND f.latent IN (SELECT unnest($latents)) AND p.split = 'confirmation'
    QUALIFY row_number() OVER (PARTITION BY f.latent, p.scenario ORDER BY f.max DESC, f.prompt) = 1
),
ranked AS (
    SELECT
        latent, prompt, concept, arm,
        row_number() OVER (PARTITION BY latent ORDER BY max DESC, prompt) AS place,
        count(*) OVER (PARTITION BY latent) AS scenarios
    FROM strongest
)
SELECT
    latent, prompt, concept, arm,
    CASE WHEN place <= $most THEN 'top' WHEN place = (scenarios + 1) // 2 THEN 'middle' ELSE 'low' END AS quantile
FROM ranked
WHERE $most > 0 AND (place <= $most OR place = (scenarios + 1) // 2 OR place = (9 * scenarios + 9) // 10)
ORDER BY latent, place
