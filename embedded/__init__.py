"""A private Valkey and PostgreSQL for `make run` and the tests; no production code imports this."""
