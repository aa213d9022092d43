-- Caller: `affidavit sql --finding`. One row a finding: its effect on held-out scenarios, computed here from their scores, and the effect that
-- was recorded. A latent that is silent in a scenario scores 0 there.
WITH asked AS (
    SELECT *, CASE contrast WHEN 'topic' THEN 'neutral' ELSE 'control' END AS baseline
    FROM finding
    WHERE finding = $finding
),
numbers AS (
    SELECT s.number
    FROM scenario AS s
    INNER JOIN prompt AS p USING (scenario)
    INNER JOIN asked AS a ON a.concept = s.concept
    WHERE s.split = 'confirmation' AND p.arm IN ('concept', a.baseline) AND p.frame <> 'outcome'
    GROUP BY s.number
    HAVING count(DISTINCT p.arm) = 2
),
scores AS (
    SELECT
        s.number,
        sum(CASE WHEN p.arm = 'concept' THEN f.max::DOUBLE ELSE -f.max::DOUBLE END ORDER BY p.prompt) / c.frames AS score,
        sum(CASE WHEN p.arm = 'concept' THEN 1.0 ELSE -1.0 END) / c.frames AS firing
    FROM prompt_feature AS f
    INNER JOIN prompt AS p USING (prompt)
    INNER JOIN scenario AS s USING (scenario)
    INNER JOIN concept AS c ON c.concept = s.concept
    INNER JOIN asked AS a ON a.sae = f.sae AND a.latent = f.latent AND a.concept = s.concept
    WHERE s.split = 'confirmation' AND p.arm IN ('concept', a.baseline) AND p.frame <> 'outcome'
    GROUP BY s.number, c.frames
),
differences AS (
    SELECT n.number, coalesce(s.score, 0) AS score, coalesce(s.firing, 0) AS firing
    FROM numbers AS n
    LEFT JOIN scores AS s USING (number)
)
SELECT
    a.finding,
    avg(d.score) / stddev_samp(d.score) AS d_z,
    avg(CASE WHEN d.score > 0 THEN 1.0 WHEN d.score = 0 THEN 0.5 ELSE 0.0 END) AS auroc,
    avg(d.firing) AS firing_difference,
    count(*) AS n_scenarios,
    count(*) FILTER (WHERE d.score <> 0) AS n_nonzero,
    a.d_z AS recorded_d_z,
    a.auroc AS recorded_auroc
FROM differences AS d
CROSS JOIN asked AS a
GROUP BY a.finding, a.d_z, a.auroc
ORDER BY a.finding
