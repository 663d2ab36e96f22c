"""Keys in use: whether the upstream takes them, their age, and what a policy asks for."""
