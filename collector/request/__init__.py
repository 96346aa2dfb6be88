"""The steps of one request, without I/O."""
