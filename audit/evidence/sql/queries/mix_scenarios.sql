-- Caller: mixes.read_mix. One row a scenario of one mix and split that has every cell in both orders.
SELECT s.number
FROM scenario AS s
INNER JOIN prompt AS p USING (scenario)
INNER JOIN clause_start AS c USING (prompt)
WHERE s.concept = $mix AND s.split = $split AND p.arm IN ('00', '10', '01', '11', '0p', '1p') AND p.frame IN ('ab', 'ba')
GROUP BY s.number
HAVING count(DISTINCT p.arm || p.frame) = 12
ORDER BY s.number
