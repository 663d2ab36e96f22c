"""Bytes that outlive a process: pure and versioned.

The docstrings specify them, and ``tests/vectors`` has vectors of them.
"""
