-- Caller: scores.read_fidelity. One row: latents active at a token.
SELECT tokens, l0_mean, l0_p05, l0_p95 FROM sparsity WHERE sae = $sae AND concept = $concept
