-- Caller: scores.read_scores. One row a scenario of one concept and split that has both arms.
SELECT s.number
FROM scenario AS s
INNER JOIN prompt AS p USING (scenario)
WHERE s.concept = $concept AND s.split = $split AND p.arm IN ($arm, $baseline) AND p.frame <> 'outcome'
GROUP BY s.number
HAVING count(DISTINCT p.arm) = 2
ORDER BY s.number
