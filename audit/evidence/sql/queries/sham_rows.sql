-- Caller: causal_rows.read_causal_rows. One row a claim and sham that was run, in the order of recording.
SELECT
    claim,
    number,
    downstream_sae,
    downstream_latent,
    effect,
    scenarios
FROM sham
ORDER BY rowid
