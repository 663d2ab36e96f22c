"""One call to an upstream, the key never leaving the broker."""
