"""The connections, the answers and the pages."""
