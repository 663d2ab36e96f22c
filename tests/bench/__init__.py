"""Benchmarks: each beside its peer in one run, reported as a ratio."""
