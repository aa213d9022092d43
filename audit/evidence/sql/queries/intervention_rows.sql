-- Caller: causal_rows.read_causal_rows. One row an exact run, in the order in which they were recorded.
SELECT
    part,
    scenario,
    asked,
    sae,
    kind,
    reference,
    first,
    second,
    changed,
    untouched,
    outcome,
    kl
FROM intervention
ORDER BY rowid
