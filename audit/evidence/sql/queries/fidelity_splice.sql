-- Caller: scores.read_fidelity. One row a prompt of the scope, spliced with the SAE.
SELECT p.scenario, s.tokens, s.ce, s.ce_spliced, s.ce_ablated, s.kl, s.kl_random
FROM splice AS s
INNER JOIN prompt AS p USING (prompt)
WHERE s.sae = $sae AND ($concept = 'all' OR p.concept = $concept)
ORDER BY s.prompt
