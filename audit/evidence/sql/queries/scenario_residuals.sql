-- Caller: scores.read_residuals. One row a scenario, arm and frame: mean residual over the kept positions, and the last one.
SELECT s.number, p.arm, p.frame, r.mean, r.last
FROM residual AS r
INNER JOIN prompt AS p USING (prompt)
INNER JOIN scenario AS s USING (scenario)
WHERE r.site = $site AND s.concept = $concept AND s.split = $split AND p.arm IN ($arm, $baseline)
ORDER BY s.number, p.arm, p.frame
