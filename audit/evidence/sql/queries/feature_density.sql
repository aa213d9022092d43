-- Caller: scores.read_densities. One row a latent that fired: tokens it fired on, and its largest activation.
SELECT latent, tokens, max FROM feature WHERE sae = $sae ORDER BY latent
