-- Caller: content.write_withheld. One row of a range a prompt; where one is withheld, what stands for its text.
SELECT p.prompt, p.concept, p.scenario, p.split, p.arm, p.frame, coalesce(s.text, p.text) AS text
FROM sealed.main.prompt AS p
LEFT JOIN stand_in AS s USING (prompt)
WHERE p.rowid BETWEEN $first AND $last
ORDER BY p.rowid
