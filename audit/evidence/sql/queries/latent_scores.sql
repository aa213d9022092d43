-- Caller: versions.read_latent_scores. One row a wanted (concept, latent), split and scenario: mean over frames of max(concept arm) - max(baseline).
WITH wanted AS (SELECT unnest($concepts) AS concept, unnest($latents) AS latent)
SELECT
    s.concept,
    s.split,
    s.number,
    f.latent,
    sum(CASE WHEN p.arm = 'concept' THEN f.max::DOUBLE ELSE -f.max::DOUBLE END ORDER BY p.prompt) / c.frames AS score
FROM prompt_feature AS f
INNER JOIN prompt AS p USING (prompt)
INNER JOIN scenario AS s USING (scenario)
INNER JOIN concept AS c ON c.concept = s.concept
INNER JOIN wanted AS w ON w.concept = s.concept AND w.latent = f.latent
WHERE f.sae = $sae AND p.arm IN ('concept', $baseline) AND p.frame <> 'outcome'
GROUP BY s.concept, s.split, s.number, f.latent, c.frames
ORDER BY s.concept, s.split, s.number, f.latent
