"""Customers' keys: credentials, their numbered versions and the lawful moves between their states."""
