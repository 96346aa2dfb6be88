"""Into PostgreSQL: the schema, writing batches, and the kept counts."""
