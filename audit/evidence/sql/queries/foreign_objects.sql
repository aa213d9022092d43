-- Caller: content.read_content, Store. One row a view, macro, comment or other object of a database that is no table of evidence.
SELECT 'view ' || view_name AS object FROM duckdb_views() WHERE database_name = $database AND NOT internal
UNION ALL
SELECT 'macro ' || function_name FROM duckdb_functions() WHERE database_name = $database AND NOT internal
UNION ALL
SELECT 'sequence ' || sequence_name FROM duckdb_sequences() WHERE database_name = $database
UNION ALL
SELECT 'type ' || type_name FROM duckdb_types() WHERE database_name = $database AND NOT internal
UNION ALL
SELECT 'index ' || index_name FROM duckdb_indexes() WHERE database_name = $database
UNION ALL
SELECT 'schema ' || schema_name
FROM duckdb_schemas() WHERE database_name = $database AND NOT internal AND schema_name <> 'main'
UNION ALL
SELECT 'table ' || schema_name || '.' || table_name
FROM duckdb_tables() WHERE database_name = $database AND schema_name <> 'main'
UNION ALL
SELECT 'comment on ' || table_name FROM duckdb_tables() WHERE database_name = $database AND comment IS NOT NULL
UNION ALL
SELECT 'comment on ' || table_name || '.' || column_name
FROM duckdb_columns() WHERE database_name = $database AND comment IS NOT NULL
ORDER BY object
