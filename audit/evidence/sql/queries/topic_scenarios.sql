-- Caller: cards.read_topic_scores. One row a concept, split and scenario that has the concept arm and the neutral arm.
SELECT s.concept, s.split, s.number
FROM scenario AS s
INNER JOIN prompt AS p USING (scenario)
WHERE p.arm IN ('concept', 'neutral') AND p.frame <> 'outcome'
GROUP BY s.concept, s.split, s.number
HAVING count(DISTINCT p.arm) = 2
ORDER BY s.concept, s.split, s.number
