-- Caller: whoever checks a sham test. One row a claim and sham that was run: its mean effect on the answer over these scenarios, in nats.
SELECT
    claim,
    number,
    first,
    second,
    effect,
    scenarios
FROM sham
WHERE downstream_latent IS NULL
ORDER BY claim, number
