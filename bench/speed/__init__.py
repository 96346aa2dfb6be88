"""Each benchmark beside its limit and the obvious design."""
