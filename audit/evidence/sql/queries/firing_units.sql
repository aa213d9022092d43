-- Caller: firing.read_firing_units. One row a concept or mix, scenario and arm or cell that was captured at the SAE's site: which of the
-- SAE's latents fire in any of its prompts, and the kept tokens of its longest prompt. The outcome question is no prompt of it.
WITH captured AS (
    SELECT p.prompt, p.concept, p.scenario, p.arm, r.kept, s.latents, dense_rank() OVER (ORDER BY p.concept, p.scenario, p.arm) AS unit
    FROM prompt AS p
    INNER JOIN residual AS r ON r.prompt = p.prompt
    INNER JOIN sae AS s ON s.site = r.site
    WHERE s.sae = $sae AND p.frame <> 'outcome'
),
firing AS (
    SELECT DISTINCT c.unit, f.latent
    FROM prompt_feature AS f
    INNER JOIN captured AS c ON c.prompt = f.prompt
    WHERE f.sae = $sae
),
listed AS (
    SELECT unit, list(latent ORDER BY latent) AS fired
    FROM firing
    GROUP BY unit
),
unit AS (
    SELECT unit, concept || '/' || arm AS cell, scenario, max(kept) AS tokens, latents
    FROM captured
    GROUP BY unit, concept, scenario, arm, latents
)
SELECT u.cell, u.scenario, u.tokens, u.latents, coalesce(l.fired, []) AS fired
FROM unit AS u
LEFT JOIN listed AS l ON l.unit = u.unit
ORDER BY u.unit
