-- Caller: content.write_withheld. One row of a range a token; a square for the content of a withheld prompt.
SELECT
    t.prompt, t.position, t.content,
    CASE WHEN t.content AND s.prompt IS NOT NULL THEN $piece ELSE t.piece END AS piece
FROM sealed.main.token AS t
LEFT JOIN stand_in AS s USING (prompt)
WHERE t.rowid BETWEEN $first AND $last
ORDER BY t.rowid
