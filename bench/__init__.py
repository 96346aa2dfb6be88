"""Benchmarks, and load whose answers are compared with the stored rows."""
