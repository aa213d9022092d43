-- Caller: whoever checks the ladder. One row a rung: how many findings of features stand on it.
SELECT
    rung,
    count(*) AS findings
FROM finding
GROUP BY rung
ORDER BY rung
