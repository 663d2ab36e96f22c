"""Customers' keys: credentials, their numbered versions, and lawful moves of these."""
