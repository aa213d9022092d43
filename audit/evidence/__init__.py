"""The room that keeps evidence in DuckDB; the only one that imports duckdb."""
