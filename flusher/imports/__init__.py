"""Sessions of the earlier system."""
