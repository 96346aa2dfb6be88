"""Into PostgreSQL: the schema, the write and the kept counts."""
