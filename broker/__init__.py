"""Keybroker."""
