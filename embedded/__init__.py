"""A private Valkey and PostgreSQL for `make run` and the tests. Production never imports it."""
