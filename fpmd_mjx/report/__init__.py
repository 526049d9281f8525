"""Statistics, tables and curves of results."""
