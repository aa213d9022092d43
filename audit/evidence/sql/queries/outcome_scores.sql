-- Caller: scores.read_outcomes. One row a scenario: logit(target) - logit(foil) on the concept and on the control arm.
SELECT
    s.number,
    max(CASE WHEN p.arm = 'concept' THEN o.target_logit - o.foil_logit END) AS concept_value,
    max(CASE WHEN p.arm = 'control' THEN o.target_logit - o.foil_logit END) AS control_value
FROM outcome AS o
INNER JOIN prompt AS p USING (prompt)
INNER JOIN scenario AS s USING (scenario)
WHERE s.concept = $concept
GROUP BY s.number
HAVING count(*) = 2
ORDER BY s.number
