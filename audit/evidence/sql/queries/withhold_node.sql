-- Caller: content.write_withheld. One row of a range a node; where a feature's label is withheld, what stands for it.
SELECT n.node, n.kind, n.sae, n.site, n.layer, n.latent, coalesce(l.label, n.label) AS label
FROM sealed.main.node AS n
LEFT JOIN node_label AS l ON n.kind = 'feature' AND n.sae = l.sae AND n.latent = l.latent
WHERE n.rowid BETWEEN $first AND $last
ORDER BY n.rowid
