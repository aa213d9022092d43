-- Caller: scores.read_fidelity. One row a spliced prompt of the scope.
SELECT s.tokens, s.ce, s.ce_spliced, s.kl, s.kl_random
FROM splice AS s
INNER JOIN prompt AS p USING (prompt)
WHERE $concept = 'all' OR p.concept = $concept
ORDER BY s.prompt
