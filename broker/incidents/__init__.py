"""Exposed keys: cut off at once, and a timeline of who could and did use them."""
