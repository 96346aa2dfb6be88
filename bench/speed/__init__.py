"""Benchmarks of speed, beside their limits and the obvious design."""
