-- Caller: store.ingest_shards. One row a captured prompt and site.
INSERT INTO residual
SELECT prompt, site, tokens, content, outliers, kept, mean, last, sum_squares
FROM read_parquet($prompts)
ORDER BY prompt, site
