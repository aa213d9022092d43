-- Caller: cards.read_token_use. One row a split and token piece: content tokens of all captured prompts whose texts are disclosed.
SELECT p.split, t.piece, count(*) AS tokens
FROM token AS t
INNER JOIN prompt AS p ON p.prompt = t.prompt
INNER JOIN concept AS c ON c.concept = p.concept
INNER JOIN suite AS s ON s.suite = c.suite
WHERE t.content AND p.frame <> 'outcome' AND NOT s.withheld
GROUP BY p.split, t.piece
ORDER BY p.split, t.piece
