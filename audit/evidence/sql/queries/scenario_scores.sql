-- Caller: scores.read_scores. One row a scenario and latent: mean over frames of max(arm) - max(baseline), and of firing.
SELECT
    s.number,
    f.latent,
    sum(CASE WHEN p.arm = $arm THEN f.max::DOUBLE ELSE -f.max::DOUBLE END ORDER BY p.prompt) / c.frames AS score,
    sum(CASE WHEN p.arm = $arm THEN 1.0 ELSE -1.0 END) / c.frames AS firing
FROM prompt_feature AS f
INNER JOIN prompt AS p USING (prompt)
INNER JOIN scenario AS s USING (scenario)
INNER JOIN concept AS c ON c.concept = s.concept
WHERE f.sae = $sae AND s.concept = $concept AND s.split = $split AND p.arm IN ($arm, $baseline) AND p.frame <> 'outcome'
GROUP BY s.number, f.latent, c.frames
ORDER BY s.number, f.latent
