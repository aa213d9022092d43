-- Caller: scores.read_fidelity. One row a captured prompt of the scope: moments for the fraction of variance unexplained.
SELECT r.kept, r.mean, r.sum_squares, c.error, c.cosine
FROM residual AS r
INNER JOIN reconstruction AS c USING (prompt, site)
INNER JOIN prompt AS p USING (prompt)
WHERE c.sae = $sae AND ($concept = 'all' OR p.concept = $concept)
ORDER BY r.prompt
