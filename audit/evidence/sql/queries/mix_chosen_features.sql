-- Caller: mixes.read_mix. One row a scenario of one mix and split, cell, order and wanted latent of one SAE that fired there.
SELECT s.number, p.arm AS cell, p.frame AS clauses, f.latent, f.first, f.second, f.largest
FROM mix_feature AS f
INNER JOIN prompt AS p USING (prompt)
INNER JOIN scenario AS s USING (scenario)
WHERE f.sae = $sae AND s.concept = $mix AND s.split = $split AND f.latent IN (SELECT unnest($latents))
ORDER BY s.number, p.arm, p.frame, f.latent
