-- Caller: versions.read_losses. One row a concept and scenario: cross-entropy without SAE, summed over both arms about the concept.
SELECT p.concept, p.scenario, sum(s.ce ORDER BY s.prompt) AS ce, sum(s.tokens) AS tokens
FROM splice AS s
INNER JOIN prompt AS p USING (prompt)
INNER JOIN concept AS c ON c.concept = p.concept
WHERE s.sae = $sae AND p.arm IN ($concept_arm, $control_arm)
GROUP BY p.concept, p.scenario
ORDER BY p.concept, p.scenario
