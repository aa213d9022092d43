-- Caller: recomputation. One row an SAE of the audit, instruments and controls.
SELECT
    sae,
    site,
    target,
    role,
    latents
FROM sae
ORDER BY rowid
