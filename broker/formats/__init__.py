"""Bytes that outlive a process: pure, versioned, specified in the docstrings, with vectors in ``tests/vectors``."""
