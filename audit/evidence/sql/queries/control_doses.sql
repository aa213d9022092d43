-- Caller: whoever checks the control test. One row a concept, SAE and dose: means of changed minus untouched, in nats.
SELECT
    concept,
    sae,
    latents,
    dose,
    n_scenarios,
    outcome,
    control_outcome,
    control_kl,
    control_loss,
    outcome_beside,
    n_beside,
    sham_outcomes,
    sham_control_kl,
    sham_control_loss,
    texts_changed
FROM dose
ORDER BY concept, sae, dose
