-- Caller: store.ingest_shards. One row a captured prompt.
INSERT INTO residual
SELECT prompt, tokens, content, outliers, kept, mean, last, sum_squares
FROM read_parquet($prompts)
ORDER BY prompt
