-- Caller: content.read_content. One row a prompt with a number in a range, ascending: its concept or mix, its text, and its content
-- tokens' pieces in order.
SELECT p.prompt, p.concept, p.text, coalesce(t.pieces, []) AS pieces
FROM prompt AS p
LEFT JOIN (
    SELECT prompt, list(piece ORDER BY position) AS pieces
    FROM token
    WHERE content AND prompt BETWEEN $first AND $last
    GROUP BY prompt
) AS t USING (prompt)
WHERE p.prompt BETWEEN $first AND $last
ORDER BY p.prompt
