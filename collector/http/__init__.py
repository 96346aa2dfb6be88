"""The connection, the answers and the pages."""
