-- Caller: content.read_content. One row a prompt, ascending: its number.
SELECT prompt FROM prompt WHERE prompt IS NOT NULL ORDER BY prompt
