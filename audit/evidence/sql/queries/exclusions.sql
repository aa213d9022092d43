-- Caller: scores.read_exclusions. One row: token positions by fate.
SELECT sum(tokens), sum(tokens - content), sum(outliers), sum(kept) FROM residual WHERE site = $site
