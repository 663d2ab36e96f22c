"""One call to an upstream; the key never leaves the broker."""
