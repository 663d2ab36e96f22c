"""Receive a customer's key through a one-time link, sealed in the customer's browser."""
