"""Short rights to use a key."""
