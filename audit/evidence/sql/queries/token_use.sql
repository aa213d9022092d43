-- Caller: cards.read_token_use. One row a split, latent and token piece: summed activation, and tokens on which it fires, over the content
-- tokens of all captured prompts whose texts are disclosed.
SELECT
    p.split,
    a.latent,
    t.piece,
    sum(a.activation::DOUBLE ORDER BY a.prompt, a.position) AS mass,
    count(*) AS fired
FROM read_parquet($rows) AS a
INNER JOIN prompt AS p ON p.prompt = a.prompt
INNER JOIN concept AS c ON c.concept = p.concept
INNER JOIN suite AS s ON s.suite = c.suite
INNER JOIN token AS t ON t.prompt = a.prompt AND t.position = a.position
WHERE a.sae = $sae AND a.latent IN (SELECT unnest($latents)) AND t.content AND NOT s.withheld
GROUP BY p.split, a.latent, t.piece
ORDER BY p.split, a.latent, t.piece
