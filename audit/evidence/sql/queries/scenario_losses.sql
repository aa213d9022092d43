-- Caller: versions.read_losses. One row a concept and scenario with its texts: cross-entropy without SAE and tokens, summed over both arms about the concept, and of the neutral arm.
SELECT
    p.concept,
    p.scenario,
    sum(s.ce ORDER BY s.prompt) FILTER (WHERE p.arm <> $neutral_arm) AS ce,
    sum(s.tokens) FILTER (WHERE p.arm <> $neutral_arm) AS tokens,
    sum(s.ce ORDER BY s.prompt) FILTER (WHERE p.arm = $neutral_arm) AS neutral_ce,
    sum(s.tokens) FILTER (WHERE p.arm = $neutral_arm) AS neutral_tokens
FROM splice AS s
INNER JOIN prompt AS p USING (prompt)
INNER JOIN concept AS c ON c.concept = p.concept
WHERE s.sae = $sae AND p.arm IN ($concept_arm, $control_arm, $neutral_arm)
GROUP BY p.concept, p.scenario
ORDER BY p.concept, p.scenario
