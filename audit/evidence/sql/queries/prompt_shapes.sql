-- Caller: versions.read_prompt_shapes. One row a prompt: what it is, and a hash of its token pieces with their positions.
SELECT
    p.prompt,
    p.concept,
    p.scenario,
    p.split,
    p.arm,
    p.frame,
    CASE WHEN p.text LIKE 'withheld:%' THEN '' ELSE p.text END AS text,
    count(t.position) AS tokens,
    count(t.position) FILTER (t.content) AS content,
    coalesce(bit_xor(hash(t.position, t.piece, t.content)), 0::UBIGINT) AS pieces
FROM prompt AS p
LEFT JOIN token AS t USING (prompt)
GROUP BY p.prompt, p.concept, p.scenario, p.split, p.arm, p.frame, p.text
ORDER BY p.prompt
