"""Load, and whether every request of it ended as what it was told."""
