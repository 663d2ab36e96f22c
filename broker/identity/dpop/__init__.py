"""Tokens that only the holder of a key can use (RFC 9449, DPoP): what shows that a request's sender holds it."""
