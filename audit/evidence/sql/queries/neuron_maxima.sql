-- Caller: scores.read_neurons. One row a captured prompt: the largest value of each neuron over its kept positions at a site.
SELECT p.concept, p.split, p.arm, s.number, c.frames, n.neurons
FROM read_parquet($prompts) AS n
INNER JOIN prompt AS p USING (prompt)
INNER JOIN scenario AS s USING (scenario)
INNER JOIN concept AS c ON c.concept = s.concept
WHERE n.site = $site AND len(n.neurons) > 0
ORDER BY n.prompt
