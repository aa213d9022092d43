-- Caller: whoever checks a pair. One row a mix, question, SAE and pair: mean over scenarios of y11 - y10 - y01 + y00, in nats.
SELECT
    b.part AS mix,
    b.asked AS question,
    b.sae,
    b.first,
    b.second,
    count(*) AS scenarios,
    avg(b.untouched - o.outcome ORDER BY b.scenario) AS first_effect,
    avg(b.untouched - t.outcome ORDER BY b.scenario) AS second_effect,
    avg(b.untouched - t.outcome - o.outcome + b.outcome ORDER BY b.scenario) AS interaction
FROM intervention AS b
INNER JOIN intervention AS o
    ON o.kind = 'feature' AND o.reference = '01' AND o.first = b.first
    AND o.part = b.part AND o.scenario = b.scenario AND o.asked = b.asked AND o.sae = b.sae
INNER JOIN intervention AS t
    ON t.kind = 'feature' AND t.reference = '10' AND t.first = b.second
    AND t.part = b.part AND t.scenario = b.scenario AND t.asked = b.asked AND t.sae = b.sae
WHERE b.kind = 'pair'
GROUP BY b.part, b.asked, b.sae, b.first, b.second
ORDER BY b.part, b.asked, b.sae, b.first, b.second
