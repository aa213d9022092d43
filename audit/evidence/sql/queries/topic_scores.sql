-- Caller: cards.read_topic_scores. One row a concept, split, scenario and latent: mean over frames of max(concept arm) - max(neutral arm).
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
WHERE f.sae = $sae AND f.latent IN (SELECT unnest($latents)) AND p.arm IN ('concept', 'neutral') AND p.frame <> 'outcome'
GROUP BY s.concept, s.split, s.number, f.latent, c.frames
ORDER BY s.concept, s.split, s.number, f.latent
