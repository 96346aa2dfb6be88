"""Records into the streams."""
