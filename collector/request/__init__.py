"""The steps of one request. Pure."""
