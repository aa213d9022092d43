-- Caller: whoever checks a screen. One row a member of the random set: its first-order estimate and its exact value, in nats.
SELECT
    sae,
    subject,
    number,
    member,
    estimate,
    exact
FROM screen
ORDER BY sae, subject, number
